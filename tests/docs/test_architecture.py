"""The drawing of the layout in docs/architecture.md has every folder."""

from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LAYOUT = (PROJECT / "docs/architecture.md").read_text().partition("\n## Layout\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("package", ["archive", "bridge", "gateway", "marq", "workers"])
def test_every_folder_of_a_package_is_drawn(package: str) -> None:
    folders = {file.parent.name for file in (PROJECT / package).glob("*/__init__.py")}
    assert {folder for folder in folders if f" {folder}/" not in LAYOUT} == set()
