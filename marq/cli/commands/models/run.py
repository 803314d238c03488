"""`marq run`."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from marq.cli import archive_names, options
from marq.cli.http import STDIN


def run(
    archive: Annotated[
        Path,
        typer.Argument(
            metavar="ARCHIVE",
            exists=True,
            help="An archive, or the directory of a model.",
            autocompletion=archive_names.complete,
        ),
    ],
    files: options.Bodies,
    content_type: options.ContentType = None,
    debug: Annotated[
        bool, typer.Option("--pdb", help="Start the debugger where the handler raises an exception.")
    ] = False,
) -> None:
    """Load an archive here, without a server, and run its handler once: all files are one batch.

    Answers go to stdout, what the handler prints to stderr. Exit code 1 if the model cannot be loaded or an
    answer is an error.
    """
    if debug and STDIN in files:
        raise typer.BadParameter("The debugger reads standard input: give files.", param_hint="--pdb")
    given = ["--pdb"] if debug else []
    if content_type is not None:
        given.append(f"--content-type={content_type}")
    words = [*given, "--", str(archive), *map(str, files)]
    command = [sys.executable, "-P", "-m", "workers.foreground", *words]
    os.execv(sys.executable, command)  # noqa: S606 - no shell
