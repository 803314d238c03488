"""`marq gateway` and `marq node`: parts of a server on other hosts."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from marq.cli import archive_names, options
from marq.cli.commands.server import start
from marq.cli.output import complain, note_idle


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
    start.run(given, ts_config, joins=True)


def node(
    redis_url: Annotated[
        str,
        typer.Option(
            "--redis-url",
            metavar="URL",
            envvar="MARQ_REDIS_URL",
            help="The Redis of the server. Set the variable if the URL holds a password.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="Name of this node. Default: the host's name with a suffix."
        ),
    ] = None,
    number_of_gpu: Annotated[
        int | None,
        typer.Option("--number-of-gpu", metavar="N", min=0, help="Maximum number of GPUs. Default: all."),
    ] = None,
    state_dir: options.StateDir = None,
) -> None:
    """Run replicas of a server's models on this host, too.

    The model archives must be here under the paths that they have on the server's host.
    """
    given = {
        "MARQ_REDIS_URL": redis_url,
        "MARQ_NODE": name,
        "MARQ_NUMBER_OF_GPU": number_of_gpu,
        "MARQ_STATE_DIR": state_dir,
    }
    os.environ.update({variable: str(value) for variable, value in given.items() if value is not None})
    from marq.connections import clients

    clients.check(redis_url)
    _announce_node(redis_url, number_of_gpu)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers.node"])  # noqa: S606 - no shell


def _announce_node(redis_url: str, number_of_gpu: int | None) -> None:
    """Says what the node joins, and writes the file for `marq status` and `marq stop`. Raises NameTaken."""
    from marq import gpus
    from marq.connections import clients, urls
    from marq.host import greeting, server_file
    from marq.host.node_name import NodeLease, node_name
    from marq.registry.models import Registry
    from marq.settings import loading

    resolved = loading.resolve(None, {})
    settings = resolved.settings
    name = node_name(settings.state_dir)
    with clients.client(redis_url) as client:
        with contextlib.closing(NodeLease(client, name, settings.state_dir)) as lease:
            lease.hold()  # the node goes on with it
        versions = sorted(f"{spec.name} {spec.version}" for spec in Registry(client).models())
    typer.echo(greeting.line("Node", name))
    typer.echo(greeting.line("Redis", urls.without_password(redis_url)))
    typer.echo(greeting.line("Logs", settings.log_dir.absolute()))
    typer.echo(greeting.line("Models", ", ".join(versions) or "none is registered in this database yet"))
    if number_of_gpu is not None and len(gpus.visible()) < number_of_gpu:
        note_idle("--number-of-gpu", f"this host has {len(gpus.visible())} GPUs")
    for notice in resolved.notices:
        complain(notice, "Note", "yellow")
    sys.stdout.flush()
    node = server_file.Node(os.getpid(), redis_url, name, str(settings.log_dir.absolute()))
    server_file.write_node(settings.state_dir, node)
