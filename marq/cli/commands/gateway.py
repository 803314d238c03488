"""`marq gateway`."""

from pathlib import Path
from typing import Annotated

import typer

from marq.cli import archive_names, options
from marq.cli.commands import server


def gateway(
    redis_url: Annotated[
        str,
        typer.Option(
            "--redis-url",
            metavar="URL",
            envvar="MARQ_REDIS_URL",
            help="The Redis of all gateways and nodes. Set the variable if the URL holds a password.",
        ),
    ],
    model_store: Annotated[
        Path | None,
        typer.Option(
            "--model-store", metavar="DIR", resolve_path=True, help="Directory of the model archives."
        ),
    ] = None,
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--models",
            metavar="FILE ...",
            autocompletion=archive_names.complete_all,
            help="Archives to load. Default: serve the models that other gateways load.",
        ),
    ] = None,
    ts_config: Annotated[
        Path | None,
        typer.Option("--ts-config", metavar="FILE", help="As for `marq start`."),
    ] = None,
    state_dir: options.StateDir = None,
) -> None:
    """Answer HTTP on this host; replicas run on the hosts of `marq node`.

    Several gateways can use one Redis: they share the tokens, and a model that is loaded already keeps its
    size. Other settings come from MARQ_... variables and config.properties.
    """
    given = {
        "model_store": model_store,
        "models": ",".join(models) if models else None,
        "redis_url": redis_url,
        "state_dir": state_dir,
    }
    server.run(given, ts_config, joins=True)
