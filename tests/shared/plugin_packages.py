"""Packages with plugins, as `pip install --target` leaves them in a directory."""

from collections.abc import Mapping
from pathlib import Path


def add_package(
    folder: Path, package: str, source: str, points: Mapping[str, Mapping[str, str]], version: str = "1.0"
) -> Path:
    """Puts the module `package` into the folder; `points`: {"marq.observers": {"audit": "Audit"}}."""
    info = folder / f"{package}-{version}.dist-info"
    info.mkdir(parents=True)
    (folder / f"{package}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [
        line
        for group, names in points.items()
        for line in (f"[{group}]", *(f"{name} = {package}:{attribute}" for name, attribute in names.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder
