"""`marq bridge`: tasks of Celery's clients become jobs."""

import os
import sys
from typing import Annotated

import typer

from marq.cli import options


def bridge(
    redis_url: Annotated[
        str,
        typer.Option(
            "--redis-url",
            metavar="URL",
            envvar="MARQ_REDIS_URL",
            help="The Redis of the server. Set the variable if the URL holds a password.",
        ),
    ],
    broker: Annotated[
        str | None,
        typer.Option(
            "--broker",
            metavar="URL",
            envvar="MARQ_CELERY_BROKER",
            help="The broker of the tasks: Redis, or amqp:// of RabbitMQ. Default: the server's Redis.",
        ),
    ] = None,
    result_backend: Annotated[
        str | None,
        typer.Option(
            "--result-backend",
            metavar="URL",
            envvar="MARQ_CELERY_RESULT_BACKEND",
            help="Where results go. Default: the server's Redis.",
        ),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="NAME", help="The queue of the tasks. Default: marq."),
    ] = None,
    key_prefix: Annotated[
        str | None,
        typer.Option(
            "--key-prefix", metavar="TEXT", help="The clients' `global_keyprefix`. Default: they have none."
        ),
    ] = None,
    state_dir: options.StateDir = None,
) -> None:
    """Take tasks of Celery's clients, queue them as jobs, and write their results for Celery.

    Clients send `marq.predict` with a model and a body: see docs/celery.md. `marq start --celery-bridge` runs
    one with the server. Of several bridges of a queue one works, and the others stand by.
    """
    given = {
        "MARQ_REDIS_URL": redis_url,
        "MARQ_CELERY_BROKER": broker,
        "MARQ_CELERY_RESULT_BACKEND": result_backend,
        "MARQ_CELERY_QUEUE": queue,
        "MARQ_CELERY_KEY_PREFIX": key_prefix,
        "MARQ_STATE_DIR": state_dir,
    }
    os.environ.update({variable: str(value) for variable, value in given.items() if value is not None})
    from marq.connections import clients

    clients.check(redis_url)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "bridge"])  # noqa: S606 - no shell
