"""mosec in a virtual environment of its own, made on first use."""

import subprocess
import sys
from pathlib import Path

VERSION = "0.9.8"
DEFAULT_VENV = Path(__file__).resolve().parents[1] / ".venv-mosec"


def install(venv: Path) -> None:
    """Does nothing where it is there. Raises CalledProcessError."""
    if not (venv / "bin/mosec").exists() and not list(venv.glob("lib/python*/site-packages/mosec")):
        subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "-q", f"mosec=={VERSION}"], check=True)
