"""Shell completion of archives: those in the model store, and those in the working directory."""

import contextlib
import os
from pathlib import Path

import typer

SUFFIXES = (".mar", ".tar.gz", ".tgz")
STORE_VARIABLE = "MARQ_MODEL_STORE"


def complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """The archives of `--model-store` or MARQ_MODEL_STORE; without both, of the working directory."""
    store = ctx.params.get("model_store") or os.environ.get(STORE_VARIABLE) or "."
    return [name for name in _names(Path(str(store))) if name.startswith(incomplete)]


def complete_all(ctx: typer.Context, incomplete: str) -> list[str]:
    """The same, and the word for the whole store."""
    return [name for name in ("all", *complete(ctx, incomplete)) if name.startswith(incomplete)]


def complete_of_server(ctx: typer.Context, incomplete: str) -> list[str]:
    """The archives in the model store of the server on this host; those of `complete` where none runs."""
    from marq.errors import MarqError

    names: list[str] = []
    with contextlib.suppress(MarqError):
        names = of_server(ctx.params.get("state_dir"))
    return [name for name in names if name.startswith(incomplete)] or complete(ctx, incomplete)


def of_server(state_dir: Path | None) -> list[str]:
    """The archives in the model store of the server on this host."""
    from marq.host import server_file

    store = server_file.find(state_dir).settings.get("model_store")
    return _names(Path(str(store))) if store else []


def _names(directory: Path) -> list[str]:
    try:
        return sorted(path.name for path in directory.iterdir() if path.name.endswith(SUFFIXES))
    except OSError:
        return []
