"""The first things that a newcomer types."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support import RunningServer

PROJECT = Path(__file__).parents[2]
READMES = [PROJECT / "README.md", *sorted(PROJECT.glob("examples/*/README.md"))]
SENT = re.compile(r"(?:-T |@)([\w.-]+\.\w+)")
MAKES = re.compile(r"^ *(python -c \".*\".*)$", re.M)


def sent_files(readme: Path) -> set[str]:
    """The files that the commands of a README send."""
    return {name for line in readme.read_text().splitlines() if "curl" in line for name in SENT.findall(line)}


@pytest.mark.parametrize("readme", list(filter(sent_files, READMES)), ids=lambda path: path.parent.name)
def test_each_file_that_a_readme_sends_is_made_by_a_line_of_it(readme: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for file in readme.parent.glob("*.py"):
        shutil.copy(file, folder)
    for command in MAKES.findall(readme.read_text()):
        command = command.replace("python", sys.executable, 1)
        subprocess.run(["bash", "-ec", command], cwd=folder, check=True, timeout=100)
    assert all((folder / name).stat().st_size for name in sent_files(readme))


def test_curl_t_submits_a_job(
    serve_models: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    handler = "def handle(data, context): return data and [bytes(row['body']) for row in data]\n"
    make_archive(tmp_path, "mirror", handler, config={"minWorkers": 1, "maxWorkers": 1})
    server = serve_models(tmp_path)
    server.wait_until_ready("mirror")
    (tmp_path / "seven.txt").write_text("seven")
    for path in ("mirror", "mirror/1.0"):
        command = ["curl", "-sS", "-i", "-T", tmp_path / "seven.txt", f"{server.inference}/jobs/{path}"]
        answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
        assert "HTTP/1.1 202 " in answer
        found = re.search(r"location: (\S+)", answer, re.IGNORECASE)
        assert found
        result = f"{server.inference}{found[1]}/result?wait=30"
        assert httpx.get(result, timeout=60).text == "seven"
