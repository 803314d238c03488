"""`marq node`."""

import os
import sys
from typing import Annotated

import typer

from marq.cli import options


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
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers.node"])  # noqa: S606 - no shell
