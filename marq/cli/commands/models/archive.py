"""`marq archive`."""

import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box, filesize
from rich.markup import escape
from rich.table import Table

from marq.cli import options
from marq.cli.output import complain, fail, out, print_json

if TYPE_CHECKING:
    from archive.packing.writer import ArchiveSpec

Listing = list[tuple[str, int | None]]  # member, bytes if they are known


def archive(
    model_name: Annotated[
        str, typer.Option("--model-name", "--model_name", metavar="NAME", help="Name of the model.")
    ],
    version: Annotated[str, typer.Option("-v", "--version", metavar="V", help="Version of the model.")],
    handler: Annotated[
        str | None,
        typer.Option(
            "--handler",
            metavar="NAME|FILE",
            help="Default handler, or a Python file, perhaps with :function. Default: the model file if it "
            "defines handle() or a handler class, else base_handler.",
        ),
    ] = None,
    serialized_file: Annotated[
        str | None,
        typer.Option(
            "--serialized-file",
            "--serialized_file",
            "--checkpoint-file",
            "--checkpoint_file",
            metavar="FILE",
            help="Weights, TorchScript or other.",
        ),
    ] = None,
    model_file: Annotated[
        str | None,
        typer.Option(
            "--model-file", "--model_file", metavar="FILE", help="Python file of the model's class."
        ),
    ] = None,
    extra_files: Annotated[
        list[str] | None,
        typer.Option(
            "--extra-files",
            "--extra_files",
            metavar="FILE,...",
            help="Additional files, directories (their contents) and wildcards.",
        ),
    ] = None,
    runtime: Annotated[
        str, typer.Option("--runtime", metavar="NAME", help="python, python3 or LSP.")
    ] = "python",
    export_path: Annotated[
        Path,
        typer.Option("--export-path", "--export_path", metavar="DIR", help="Directory for the archive."),
    ] = Path(),
    archive_format: Annotated[
        str,
        typer.Option(
            "--archive-format",
            "--archive_format",
            metavar="NAME",
            help="default, zip-store, tgz or no-archive.",
        ),
    ] = "default",
    force: Annotated[bool, typer.Option("-f", "--force", help="Replace an existing archive.")] = False,
    requirements_file: Annotated[
        str | None,
        typer.Option(
            "-r",
            "--requirements-file",
            "--requirements_file",
            metavar="FILE",
            help="Requirements file of the handler.",
        ),
    ] = None,
    config_file: Annotated[
        str | None,
        typer.Option("-c", "--config-file", "--config_file", metavar="FILE", help="The model-config.yaml."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the members; write nothing.")] = False,
    as_json: options.AsJson = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check/--no-check", help="Import the handler first, in a separate process, as a server does."
        ),
    ] = True,
) -> None:
    """Pack a model archive (.mar) and list its members.

    The options are those of torch-model-archiver. They may be spelled with
    underscores, as build scripts of models do: --model_name, --model_file,
    --checkpoint_file (the serialized file), --config_file, --extra_files,
    --requirements_file. Such scripts give no handler; see --handler.
    """
    from archive.packing.writer import ArchiveSpec, write

    spec = ArchiveSpec(
        model_name=model_name,
        handler=_handler(handler, model_file),
        version=version,
        serialized_file=serialized_file,
        model_file=model_file,
        extra_files=tuple(",".join(extra_files or ()).split(",")),
        runtime=runtime,
        export_path=export_path,
        archive_format=archive_format,
        force=force,
        requirements_file=requirements_file,
        config_file=config_file,
    )
    listing = planned(spec)
    if check:
        _check_handler(spec)
    if dry_run:
        _print(listing, None, as_json)
        return
    path = write(spec)
    _print(written(path), path, as_json)
    _check_archive(path)


def _print(listing: Listing, path: Path | None, as_json: bool) -> None:
    """Prints the members of the archive; without a path, those of a dry run."""
    if as_json:
        files = [{"name": name, "bytes": size} for name, size in listing]
        print_json({"path": path and str(path), "files": files})
    else:
        out().print(_table(listing))
        typer.echo(path or "Nothing was written.")


def _handler(handler: str | None, model_file: str | None) -> str:
    from archive.packing.default_handler import handler_of

    if handler is not None:
        return handler
    if model_file is None:
        raise typer.BadParameter("Give --handler, or --model-file if the handler is in that file.")
    return handler_of(model_file)


def _check_handler(spec: "ArchiveSpec") -> None:
    """Fails if the handler cannot be imported. Its requirements need not be installed here."""
    from archive.packing import writer
    from archive.packing.probe import probe

    if spec.runtime == "LSP":
        return
    finding = probe(Path(spec.handler).name, writer.plan(spec), spec.config_file or "")
    if finding is None:
        return
    if finding.missing_module and spec.requirements_file:
        complain(
            f"the handler could not be checked: {finding.cause}. It will work if "
            f"{Path(spec.requirements_file).name} names it and the server installs requirements.",
            "Warning",
            "yellow",
        )
        return
    fail(f"the handler cannot be imported: {finding.cause}. {finding.advice} --no-check packs it as it is.")


def planned(spec: "ArchiveSpec") -> Listing:
    """The members that `write` would pack. Raises PackagingError."""
    from archive.manifest import MANIFEST_NAME
    from archive.packing import writer

    files = writer.plan(spec)
    return [*((name, file.stat().st_size) for name, file in files.items()), (MANIFEST_NAME, None)]


def written(path: Path) -> Listing:
    """The members of the archive or directory."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        return [(file.relative_to(path).as_posix(), file.stat().st_size) for file in files]
    if path.suffix == ".mar":
        with zipfile.ZipFile(path) as packed:
            return [(info.filename, info.file_size) for info in packed.infolist()]
    with tarfile.open(path) as tar:
        return [(info.name, info.size) for info in tar]


def _check_archive(path: Path) -> None:
    """Warns of faults for which the server would refuse the archive, such as a damaged model-config.yaml."""
    from archive.errors import ArchiveError
    from archive.reader import describe

    try:
        describe(path)
    except ArchiveError as error:
        complain(f"marq will refuse this archive: {error} {error.reason}", "Warning", "yellow")


def _table(listing: Listing) -> Table:
    table = Table("File", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("Size", justify="right", no_wrap=True)
    for name, size in listing:
        table.add_row(escape(name), "-" if size is None else filesize.decimal(size))
    return table
