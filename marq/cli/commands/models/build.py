"""`marq build`: packs a file of functions."""

from pathlib import Path
from typing import Annotated

import typer

from marq.cli import options
from marq.cli.commands.models import archive
from marq.cli.output import fail


def build(
    model_name: Annotated[
        str, typer.Option("--model_name", "--model-name", metavar="NAME", help="Name of the model.")
    ],
    model_file: Annotated[
        Path,
        typer.Option(
            "--model_file",
            "--model-file",
            metavar="FILE",
            help="Python file with the functions, and handler = handler_factory(...).",
        ),
    ],
    checkpoint_file: Annotated[
        Path,
        typer.Option(
            "--checkpoint_file", "--checkpoint-file", metavar="FILE", help="The network's state_dict."
        ),
    ],
    version: Annotated[str, typer.Option("--version", metavar="V", help="Version of the model.")],
    config_file: Annotated[
        Path | None,
        typer.Option("--config_file", "--config-file", metavar="FILE", help="The model-config.yaml."),
    ] = None,
    requirements_file: Annotated[
        Path | None,
        typer.Option(
            "--requirements_file", "--requirements-file", metavar="FILE", help="The requirements.txt."
        ),
    ] = None,
    extra_files: Annotated[
        Path | None,
        typer.Option(
            "--extra_files",
            "--extra-files",
            metavar="TAR",
            help="Tar file of source files; system.extraFiles of the model-config.yaml names it.",
        ),
    ] = None,
    export_path: Annotated[
        Path,
        typer.Option("--export_path", "--export-path", metavar="DIR", help="Directory for the archive."),
    ] = Path(),
    as_json: options.AsJson = False,
) -> None:
    """Pack a file of functions and its checkpoint into NAME.mar.

    The same as the script build.sh. An archive of that name is replaced.
    marq archive has more options.
    """
    _check_extra_files(extra_files, config_file)
    archive.archive(
        model_name,
        version,
        serialized_file=str(checkpoint_file),
        model_file=str(model_file),
        extra_files=[str(extra_files)] if extra_files else None,
        export_path=export_path,
        force=True,
        requirements_file=_text(requirements_file),
        config_file=_text(config_file),
        as_json=as_json,
    )


def _check_extra_files(given: Path | None, config_file: Path | None) -> None:
    """The server unpacks only the tar file that the model-config.yaml names."""
    from archive.packing.extra_files import extra_files

    named = extra_files(config_file) if config_file else ""
    if given and given.name != named:
        where = config_file or "a model-config.yaml (--config_file)"
        line = f'system: {{extraFiles: "{given.name}"}}'
        fail(f"--extra_files {given} would not be unpacked. Write into {where}: {line}")
    if named and not given:
        fail(f"{config_file} names system.extraFiles {named}. Give it with --extra_files.")


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
