"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from marq.cli import model_names
from marq.cli.http import STDIN


def _existing(given: Path | list[Path]) -> Path | list[Path]:
    """Refuses unreadable files before anything is sent. (typer's own check refuses `-`, too.)"""
    for file in [given] if isinstance(given, Path) else given:
        if file != STDIN and (not file.exists() or file.is_dir()):
            raise typer.BadParameter(f"File not found: {file}")
    return given


StateDir = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        metavar="DIR",
        resolve_path=True,
        help="State directory of the server. Default: MARQ_STATE_DIR, or ~/.local/state/marq.",
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Inference address of another server. Default: the one on this host."
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="MARQ_TOKEN",
        help="Token for the server. Default: the token of the server on this host.",
    ),
]
ManagementUrl = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Management address of another server. Default: the one on this host."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="Name of a registered model.", autocompletion=model_names.complete),
]
ModelVersion = Annotated[
    str | None, typer.Option("--version", metavar="V", help="Model version. Default: the default version.")
]
ContentType = Annotated[
    str | None,
    typer.Option("--content-type", metavar="TYPE", help="Media type of the body. Default: by file name."),
]
Body = Annotated[
    Path, typer.Argument(metavar="FILE", callback=_existing, help="The request's body; - is standard input.")
]
Bodies = Annotated[
    list[Path], typer.Argument(metavar="FILE", callback=_existing, help="One body each; - is standard input.")
]
JsonLines = Annotated[
    Path,
    typer.Argument(metavar="FILE", callback=_existing, help="One JSON value a line; - is standard input."),
]
OptionalModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="[MODEL]", help="Only jobs of this model. Default: all.", autocompletion=model_names.complete
    ),
]
Priority = Annotated[
    str | None, typer.Option("--priority", metavar="P", help="high, normal or low. Default: normal.")
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="A tag of the jobs; may be given several times."),
]
Tag = Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only jobs with this tag.")]
JobState = Annotated[
    str | None, typer.Option("--state", metavar="STATE", help="Only jobs in this state, such as queued.")
]
