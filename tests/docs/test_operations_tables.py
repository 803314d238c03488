"""docs/operations.md names every command and every setting, with the defaults that the code has."""

import re
from pathlib import Path

import typer

from marq.cli.app import app
from marq.settings.fields import Settings

DOCS = Path(__file__).parents[2] / "docs"
UNITS = {"GiB": 2**30, "MiB": 2**20}


def prose(page: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```$", "", (DOCS / page).read_text(), flags=re.M | re.S)


def section(title: str) -> str:
    return prose("operations.md").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def names(text: str) -> set[str]:
    """The words in backticks."""
    return {word for piece in re.findall(r"`([^`]+)`", text) for word in re.findall(r"[\w-]+", piece)}


def test_every_command_is_named() -> None:
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperGroup)
    assert set(command.commands) - names(section("Commands")) == set()


def test_every_setting_is_named() -> None:
    pages = ("operations.md", "metrics.md", "compatibility-configuration.md")
    assert set(Settings.model_fields) - set().union(*(names(prose(page)) for page in pages)) == set()


def test_the_defaults_of_numbers_are_those_of_the_code() -> None:
    compared = 0
    for row in re.findall(r"^\| `.*\|$", section("Settings"), re.M):
        setting, _, default, *_ = (cell.strip() for cell in row.strip("|").split("|"))
        fields = re.findall(r"`(\w+)`", setting)
        shown = [int(digits.replace(",", "")) * UNITS.get(unit, 1) for digits, unit in numbers(default)]
        if default[:1].isdigit() and len(shown) == len(fields):
            assert shown == [Settings.model_fields[field].default for field in fields], row
            compared += 1
    assert compared >= 8


def numbers(cell: str) -> list[tuple[str, str]]:
    return re.findall(r"(?<![\w:.])(\d[\d,]*\d|\d)(?: (GiB|MiB))?(?![\w.])", cell)
