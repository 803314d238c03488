"""Redis URLs, their TLS options and their form for logs; constants of all connections."""

import re
import socket
import ssl
from collections.abc import Sequence
from typing import TypedDict
from urllib.parse import urlsplit, urlunsplit

import hiredis
from redis.connection import parse_url

Command = Sequence[object]
CONNECT_TIMEOUT_S = 4.0  # a wrong URL is reported within 5 s
RECONNECT_DELAY_S = 0.2  # between two attempts to reach a Redis that is away
# A host that vanished is noticed after half a minute, without a time-out on each read.
PROBES: dict[int, int] = {
    getattr(socket, name): value
    for name, value in (
        ("TCP_KEEPIDLE", 15),
        ("TCP_KEEPINTVL", 5),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 30_000),  # ms; there are no probes while sent data is unconfirmed
    )
    if hasattr(socket, name)
}
KEEPALIVE: dict[str, object] = {"socket_keepalive": True, "socket_keepalive_options": PROBES}
CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


class Options(TypedDict, total=False):
    """The options that redis-py reads from a URL, as far as marq uses them."""

    host: str
    port: int
    path: str  # of a Unix socket
    username: str
    password: str
    db: int
    ssl_ca_certs: str
    ssl_ca_path: str
    ssl_cert_reqs: str
    ssl_check_hostname: bool
    ssl_certfile: str
    ssl_keyfile: str
    ssl_password: str


def parse(url: str) -> Options:
    """The options in the URL of one server. Raises ValueError."""
    options: Options = parse_url(url)  # type: ignore[no-untyped-call]
    return options


def without_password(url: str) -> str:
    """The URL as it may be logged."""
    parts = urlsplit(url)
    if "@" in url and "@" not in parts.netloc and parts.scheme != "unix":
        # A password with a "/", "?" or "#" that is not written as %2F, ...: nothing before the "@" is safe.
        return f"{parts.scheme}://***@{url.rpartition('@')[2]}"
    if "pas" in parts.query:  # `password`, `sentinel_password`, and how they are mistyped
        parts = parts._replace(query=re.sub(r"(pas[^=&]*=)[^&]*", r"\1***", parts.query))
    if parts.password is not None:
        host = parts.netloc.rpartition("@")[2]
        parts = parts._replace(netloc=f"{parts.username or ''}:***@{host}")
    return urlunsplit(parts)


def tls_context(options: Options) -> ssl.SSLContext:
    """The TLS context for the `ssl_...` options of a rediss:// URL, which have redis-py's meaning.

    Raises OSError or ValueError.
    """
    context = ssl.create_default_context()
    authorities = options.get("ssl_ca_certs"), options.get("ssl_ca_path")
    if any(authorities):
        context.load_verify_locations(*authorities)
    wanted = options.get("ssl_cert_reqs", "required")
    if wanted not in CERT_REQS:
        raise ValueError(f"ssl_cert_reqs must be one of {', '.join(CERT_REQS)}, not {wanted}")
    context.check_hostname = options.get("ssl_check_hostname", True) and wanted != "none"
    context.verify_mode = CERT_REQS[wanted]
    if certificate := options.get("ssl_certfile"):
        key, password = options.get("ssl_keyfile"), options.get("ssl_password")
        context.load_cert_chain(certificate, key, password)
    return context


def pack(command: Command) -> bytes:
    return hiredis.pack_command(tuple(command))  # type: ignore[arg-type, no-any-return]
