"""TorchServe in a virtual environment of its own, made on first use."""

import shutil
import subprocess
import sys
from pathlib import Path

VERSION = "0.12.0"
PACKAGES = (
    "torch==2.13.0",
    f"torchserve=={VERSION}",
    f"torch-model-archiver=={VERSION}",
    "numpy",
    "pillow",
    "captum",
    "pyyaml",
    "psutil",
    "packaging",
    "setuptools",
)
DEFAULT_VENV = Path(__file__).resolve().parents[1] / ".venv-torchserve"


class InstallFailed(Exception):
    """Raised when the environment cannot be made; carries pip's output."""


def java() -> str:
    """The first line of `java -version`; empty without Java."""
    if not shutil.which("java"):
        return ""
    done = subprocess.run(["java", "-version"], capture_output=True, text=True)
    return (done.stderr or done.stdout).strip().partition("\n")[0] if done.returncode == 0 else ""


def is_installed(venv: Path) -> bool:
    return (venv / "bin/torchserve").exists()


def install(venv: Path) -> None:
    """Makes the environment. Raises InstallFailed; a half-made one is removed."""
    try:
        _run([sys.executable, "-m", "venv", str(venv)])
        _run([str(venv / "bin/python"), "-m", "pip", "install", "--quiet", *PACKAGES])
    except BaseException:
        shutil.rmtree(venv, ignore_errors=True)
        raise


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InstallFailed(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
