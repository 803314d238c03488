"""TCP ports that no other test process gets, however many run on this machine."""

import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Below the ports that systems give to outgoing connections and to servers that ask for any port.
FIRST, LAST, BLOCK = 20_000, 32_000, 40
_LOCKS = Path(tempfile.gettempdir()) / f"test-ports-{os.getuid()}"
_held: list[int] = []  # file descriptors: their locks end with this process


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses now, each time another one."""
    return next(_ports)


def _unused() -> Iterator[int]:
    for first in _blocks():
        yield from filter(_is_free, range(first, first + BLOCK))


def _blocks() -> Iterator[int]:
    """The first ports of blocks that belong to this process until it ends."""
    _LOCKS.mkdir(exist_ok=True)
    for first in range(FIRST, LAST, BLOCK):
        descriptor = os.open(_LOCKS / str(first), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            _held.append(descriptor)
            yield first
    raise RuntimeError(f"test processes hold all ports from {FIRST} to {LAST}")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_ports = _unused()
