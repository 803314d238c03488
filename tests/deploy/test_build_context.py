"""The images are built from what .dockerignore lets through."""

import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_every_package_goes_into_the_images():
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {name.rstrip("*") for name in settings["packages"]["find"]["include"]}
    allowed = {
        line[1:] for line in (PROJECT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert packages <= allowed
