"""Listening sockets: opened by the supervisor, so that a taken port ends the start before any process runs,
and inherited by the gateways, so that a gateway can be replaced without refusing a connection."""

import contextlib
import errno
import socket
from collections.abc import Mapping
from pathlib import Path

from marq.errors import MarqError
from marq.settings import addresses

VARIABLE = "MARQ_LISTEN"  # "inference=5,management=6"
GATEWAY_VARIABLE = "MARQ_GATEWAY"  # the number of a gateway among the host's
BACKLOG = 2048
MOST_SHOWN = 80  # characters of the command line of the process that uses a port


class PortTaken(MarqError):
    """Raised when an address cannot be listened on; names it."""


def listen(address: str, name: str) -> socket.socket:
    """A listening socket for the address that the setting `name` gives. Raises PortTaken, ValueError."""
    where = addresses.parse(address, name)
    family = socket.AF_UNIX if where.path else socket.AF_INET6 if ":" in where.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if where.path:
            _remove_stale(where.path)
            sock.bind(where.path)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((where.host, where.port))
    except OSError as error:
        sock.close()
        what = where.path or f"port {where.port}"
        user = _user_of(where.port) if error.errno == errno.EADDRINUSE and where.port else ""
        cure = f"{user} uses {what}: stop it" if user else f"Stop what uses {what}"
        raise PortTaken(
            f"{name} {address} cannot be used: {error.strerror or error}. {cure}, or set another {name}."
        ) from None
    sock.listen(BACKLOG)
    return sock


def _user_of(port: int) -> str:
    """The process that listens on a port; empty where the system does not show it to this user."""
    import psutil  # for this error only

    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,) and found.pid:
                words = " ".join(psutil.Process(found.pid).cmdline())
                return f"Process {found.pid} ({words[:MOST_SHOWN]})"
    return ""


def _remove_stale(path: str) -> None:
    """Deletes a socket without a listener, left by a killed server."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
        except FileNotFoundError:
            pass


def environment(sockets: Mapping[str, socket.socket]) -> dict[str, str]:
    """The environment that names a child's inherited descriptors."""
    return {VARIABLE: ",".join(f"{name}={sock.fileno()}" for name, sock in sockets.items())}


def inherited_sockets(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """The inherited sockets that `environment` names."""
    pairs = (item.split("=") for item in environ[VARIABLE].split(","))
    return {name: socket.socket(fileno=int(number)) for name, number in pairs}
