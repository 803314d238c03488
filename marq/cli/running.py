"""The server or node of a state directory, and its process."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

    from marq.host.server_file import Node, Server

CLOCK_SLACK_S = 5.0


def running(state_dir: Path | None) -> "tuple[Server, psutil.Process]":
    """The server of this state directory and its process. Raises ServerNotFound.

    A process that is younger than the server's file has only taken over the pid of a killed server.
    """
    from marq.host import server_file

    server = server_file.find(state_dir)
    path = server_file.state_dir(state_dir) / server_file.FILE_NAME
    if process := _process(server.pid, path):
        return server, process
    raise server_file.ServerNotFound(
        f"No marq server runs with the state directory {path.parent}. Process {server.pid} is another one."
    )


def redis_url(state_dir: Path | None) -> str:
    """The URL of the Redis of the server, or else of the node. Raises ServerNotFound."""
    from marq.host.server_file import ServerNotFound

    try:
        return running(state_dir)[0].redis_url
    except ServerNotFound:
        if (node := running_node(state_dir)) is None:
            raise
        return node[0].redis_url


def running_node(state_dir: Path | None) -> "tuple[Node, psutil.Process] | None":
    """The same for `marq node`."""
    from marq.host import server_file

    node = server_file.find_node(state_dir)
    path = server_file.state_dir(state_dir) / server_file.NODE_FILE_NAME
    process = _process(node.pid, path) if node else None
    return (node, process) if node and process else None


def _process(pid: int, file: Path) -> "psutil.Process | None":
    """The process that has written the file, unless it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        is_its = process.create_time() <= file.stat().st_mtime + CLOCK_SLACK_S
    except (psutil.Error, OSError):
        return None
    return process if is_its else None
