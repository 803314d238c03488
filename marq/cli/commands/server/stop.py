"""`marq stop`."""

import contextlib
from pathlib import Path

import typer

from marq.cli import options
from marq.cli.output import err, print_json
from marq.cli.running import running, running_node
from marq.errors import MarqError

STOP_MARGIN_S = 60.0  # beyond what gateways and pools may take


class StopFailed(MarqError):
    """Raised when the server does not stop in time."""


def stop(as_json: options.AsJson = False, state_dir: options.StateDir = None) -> None:
    """Stop the server, or the node of `marq node`: running requests finish, queued requests stay queued.

    Exit code 0 also if none runs, 1 if it has not ended a minute after it should have.
    """
    import psutil

    from marq.host import processes, server_file, stop_limit

    key_file = ""
    try:
        server, process = running(state_dir)
        key_file, redis_url = server.key_file, server.redis_url
    except server_file.ServerNotFound:
        if (node := running_node(state_dir)) is None:
            text = f"No marq server runs with the state directory {server_file.state_dir(state_dir)}."
            _print(text, None, as_json)
            return
        redis_url, process = node[0].redis_url, node[1]
    _warn_if_redis_fails(redis_url)
    is_its_file = bool(key_file) and _has_tokens_of(Path(key_file), redis_url)
    ended = True
    timeout_s = 2 * stop_limit.read(server_file.state_dir(state_dir)) + STOP_MARGIN_S
    with err().status(f"Stopping marq (pid {process.pid})"), contextlib.suppress(psutil.NoSuchProcess):
        ended = processes.end(process, timeout_s)
    if not ended:
        raise StopFailed(f"marq (pid {process.pid}) has not stopped after {timeout_s:g} s.")
    if is_its_file:
        Path(key_file).unlink(missing_ok=True)  # its tokens are not valid any more
    _print(f"marq (pid {process.pid}) has stopped.", process.pid, as_json)


def _warn_if_redis_fails(redis_url: str) -> None:
    from marq.connections import clients
    from marq.errors import RedisUnavailable

    try:
        clients.check(redis_url)
    except RedisUnavailable as error:
        note = "Requests in flight are not waited for; those that are queued stay in Redis."
        typer.echo(f"{error}\n{note}", err=True)


def _has_tokens_of(key_file: Path, redis_url: str) -> bool:
    """Whether the file is this server's; another one that was started in its directory has replaced it."""
    import redis

    from marq.connections import clients
    from marq.registry import token_store

    with contextlib.suppress(redis.RedisError), clients.client(redis_url) as client:
        return token_store.are_in(key_file, client)
    return False


def _print(text: str, stopped: int | None, as_json: bool) -> None:
    """`stopped`: the pid of the process that has ended."""
    if as_json:
        print_json({"stopped": stopped})
    else:
        typer.echo(text)
