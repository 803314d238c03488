"""Listening sockets: opened by the supervisor, so that a taken port ends the start before any process runs,
and inherited by the gateways, so that a gateway can be replaced without refusing a connection."""

import contextlib
import errno
import socket
from collections.abc import Mapping
from pathlib import Path

from marq.errors import MarqError
from marq.settings import addresses
from marq.settings.addresses import Address
from marq.settings.grpc_addresses import Plane

VARIABLE = "MARQ_LISTEN"  # "inference=5,management=6"
GATEWAY_VARIABLE = "MARQ_GATEWAY"  # the number of a gateway among the host's
BACKLOG = 2048
FLAGS = {
    "inference_address": "--port",
    "management_address": "--management-port",
    "metrics_address": "--metrics-port",
    "grpc_inference_port": "--grpc-port",
    "grpc_management_port": "--grpc-management-port",
}
MOST_SHOWN = 80  # characters of the command line of the process that uses a port


class PortTaken(MarqError):
    """Raised when an address cannot be listened on; names it."""


def listen(address: str, name: str) -> socket.socket:
    """A listening socket for the address that the setting `name` gives. Raises PortTaken, ValueError."""
    where = addresses.parse(address, name)
    try:
        sock = _bound(where)
    except OSError as error:
        raise _taken(f"{name} {address}", where, error, f"set another {_named(name)}") from None
    sock.listen(BACKLOG)
    return sock


def reserve(plane: Plane) -> socket.socket | None:
    """Checks that a gRPC address is free; a port stays reserved for this user while the socket is open.

    The socket does not listen: the gateways do, each with a socket of its own. A Unix socket is not
    reserved: None. Raises PortTaken.
    """
    where = Address(plane.host, plane.port, path=plane.path)
    try:
        _bound(where).close()
        if not where.path:
            return _bound(where, shared=True)
        Path(where.path).unlink()
    except OSError as error:
        setting = f"grpc_{plane.name}_{'address' if where.path else 'port'}"
        cure = f"set another {_named(setting)}, or MARQ_ENABLE_GRPC=false"
        raise _taken(f"{setting} {plane.target}", where, error, cure) from None
    return None


def _bound(where: Address, shared: bool = False) -> socket.socket:
    """`shared`: other sockets of this user can listen on the same port. Raises OSError."""
    family = socket.AF_UNIX if where.path else socket.AF_INET6 if ":" in where.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if where.path:
            _remove_stale(where.path)
            sock.bind(where.path)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((where.host, where.port))
    except OSError:
        sock.close()
        raise
    return sock


def _named(setting: str) -> str:
    """A setting, with its flag if it has one."""
    return f"{setting} (marq start {FLAGS[setting]})" if setting in FLAGS else setting


def _taken(given: str, where: Address, error: OSError, cure: str) -> PortTaken:
    what = where.path or f"port {where.port}"
    user = _user_of(where.port) if error.errno == errno.EADDRINUSE and where.port else ""
    first = f"{user} uses {what}: stop it" if user else f"Stop what uses {what}"
    return PortTaken(f"{given} cannot be used: {error.strerror or error}. {first}, or {cure}.")


def _user_of(port: int) -> str:
    """The process that listens on a port; empty where the system does not show it to this user."""
    import psutil  # for this error only

    with contextlib.suppress(psutil.Error, OSError):
        for found in psutil.net_connections("tcp"):
            if found.status == psutil.CONN_LISTEN and found.laddr[1:] == (port,) and found.pid:
                process = psutil.Process(found.pid)
                words = process.cmdline()
                if words[-1:] == ["gateway"]:  # which its server would start again
                    return f"The marq server with the pid {process.ppid()}"
                return f"Process {found.pid} ({' '.join(words)[:MOST_SHOWN]})"
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
