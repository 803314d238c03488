"""New virtual environments in which PyTorch need not be installed once more."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from sources import PYTHON_FREE


def make_environment(folder: Path) -> Path:
    """Makes an environment that has this one's PyTorch, as pip installed it: the folder of its commands."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=PYTHON_FREE)
    [packages] = folder.glob("lib/python*/site-packages")
    torch = distribution("torch")
    for name in {file.parts[0] for file in torch.files or ()} - {".."}:
        shutil.copytree(str(torch.locate_file(name)), packages / name, copy_function=_link)
    return folder / "bin"


def _link(source: str, target: str) -> None:
    """A second name for the file, or a copy if it lies on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
