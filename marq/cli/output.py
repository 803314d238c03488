"""Output and failures of commands."""

import json
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperGroup

from archive.errors import ArchiveError
from marq.errors import MarqError

INTERRUPTED = 130
PIPE_WIDTH = 200  # columns of tables that are not read on a terminal


class Commands(TyperGroup):
    """Turns every error that a user can cause into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> object:
        try:
            return super().invoke(ctx)
        except ArchiveError as error:
            fail(f"{error} {error.reason}")
        except MarqError as error:
            _fail_with(error)
        except BrokenPipeError:
            raise
        except OSError as error:
            fail(str(error))
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


def _fail_with(error: MarqError) -> NoReturn:
    """One line; one for each of several wrong settings."""
    from marq.settings.properties import SettingsError

    for each in str(error).splitlines() if isinstance(error, SettingsError) else [str(error)]:
        complain(each)
    raise typer.Exit(1)


def out() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def err() -> Console:
    return Console(stderr=True, highlight=False)


def complain(message: str, label: str = "Error", style: str = "red") -> None:
    """One line on stderr."""
    line = " ".join(message.split())
    err().print(Text(f"{label}: {line}", style=style), soft_wrap=True)


def note_idle(option: str, reason: str) -> None:
    """Says that an option that was given has no effect."""
    note(f"{option} has no effect: {reason}.")


def note(message: str) -> None:
    """One line on stderr about what is not as asked."""
    complain(message, "Note", "yellow")


def fail(message: str) -> NoReturn:
    """Ends the command with exit code 1."""
    complain(message)
    raise typer.Exit(1)


def print_json(value: object, one_line: bool = False) -> None:
    """Prints what a command has found, for `--json`; `one_line`: of several, each with a line of its own."""
    typer.echo(json.dumps(value, indent=None if one_line else 2))


def print_body(chunks: Iterable[bytes], end_line: bool = False) -> None:
    """Prints an answer's bytes as they come; on a terminal, or if asked for, adds a final newline."""
    end = b""
    for chunk in filter(None, chunks):
        typer.echo(chunk, nl=False)
        end = chunk[-1:]
    if end not in (b"", b"\n") and (end_line or sys.stdout.isatty()):
        typer.echo()
