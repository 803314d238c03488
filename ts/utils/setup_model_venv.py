"""A virtual environment that also sees the packages of this one: `setup_model_venv.py PATH`."""

import site
import sys
import sysconfig
import venv
from pathlib import Path


def create_venv(venv_path):
    venv.create(venv_path, clear=True, with_pip=True)


def inherit_site_packages(venv_path):
    """Let it also find the packages of this interpreter; its own come first."""
    places = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    lines = "".join(f"{place}\n" for place in places if Path(place).is_dir())
    own = sysconfig.get_path("purelib", "venv", {"base": str(venv_path), "platbase": str(venv_path)})
    Path(own, "inherited-site-packages.pth").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: setup_model_venv.py PATH")
    create_venv(sys.argv[1])
    inherit_site_packages(sys.argv[1])
