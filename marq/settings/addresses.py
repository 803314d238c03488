"""The addresses that a server listens on: `http://host:port`, `https://host:port` or `unix:/path`."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

# ports of http and https where an address has none
DEFAULT_PORTS = {"management_address": (8081, 8444), "metrics_address": (8082, 8445)}
WEB_PORTS = (80, 443)


@dataclass(frozen=True)
class Address:
    """Either host and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    tls: bool = False
    path: str = ""

    @property
    def is_loopback(self) -> bool:
        """Whether only processes of this machine can connect."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse(address: str, setting: str = "inference_address") -> Address:
    """The parts of the address that a setting gives. Raises ValueError."""
    parts = urlsplit(address)
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Address(path=parts.path)
    tls = parts.scheme == "https"
    try:
        port = DEFAULT_PORTS.get(setting, WEB_PORTS)[tls] if parts.port is None else parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(
            f"Invalid binding address: {address}. "
            "Write it as http://host:port, https://host:port or unix:/path/of/socket"
        )
    return Address(parts.hostname, port, tls)


def moved(address: str, setting: str, host: str | None = None, port: int | None = None) -> str:
    """The same address with another host or port. Raises ValueError where it has none."""
    where = parse(address, setting)
    if where.path:
        raise ValueError(f"{setting} {address} is a Unix socket: it has neither host nor port")
    name = host or where.host
    shown = f"[{name}]" if ":" in name else name
    return f"{'https' if where.tls else 'http'}://{shown}:{port or where.port}"
