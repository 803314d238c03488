"""Redis URLs, and the plain pipelined connection that replicas and pools use.

Wherever a URL names sentinels, each new connection goes to what is the primary then.

redis-py opens the connection (TCP, TLS or Unix socket, password, database); commands are packed and replies
parsed by hiredis, without redis-py's per-command response handling, which costs more than the command.
"""

import logging
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import hiredis
import redis
import redis.asyncio
from redis.connection import ConnectionPool

from marq import primary, scripts, sentinel
from marq.errors import RedisUnavailable

log = logging.getLogger(__name__)

Command = Sequence[object]
CONNECT_TIMEOUT_S = 4.0  # a wrong URL is told to the user within 5 s
# A host that vanished is noticed after half a minute, without a time-out on each read.
KEEPALIVE: dict[str, Any] = {
    "socket_keepalive": True,
    "socket_keepalive_options": {
        getattr(socket, name): value
        for name, value in (
            ("TCP_KEEPIDLE", 15),
            ("TCP_KEEPINTVL", 5),
            ("TCP_KEEPCNT", 3),
            ("TCP_USER_TIMEOUT", 30_000),  # ms; there are no probes while something is on its way
        )
        if hasattr(socket, name)
    },
}
CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
PASSING_ERRORS = (  # what a restart or a full Redis answers: worth sending again
    redis.exceptions.NoScriptError,
    redis.exceptions.OutOfMemoryError,
)
# The same for what redis-py has no classes for: `min-replicas-to-write` is not met, or the disk is full.
PASSING_CODES = ("NOREPLICAS", "MISCONF")


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


def client(url: str, **options: Any) -> Any:
    """A redis-py client with marq's time-outs; replies are bytes.

    (Untyped: redis-py's own hints cover both its synchronous and its asynchronous client.)
    """
    options = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": primary.REPLY_TIMEOUT_S, "protocol": 2,
        **options,
    }  # fmt: skip
    if sentinel.is_url(url):
        return redis.Redis.from_pool(primary.pool(url, **options))
    return redis.Redis.from_url(url, **options)


def asynchronous_client(url: str) -> Any:
    """The same for redis.asyncio."""
    if sentinel.is_url(url):
        return redis.asyncio.Redis.from_pool(primary.asynchronous_pool(url, protocol=2))
    return redis.asyncio.Redis.from_url(url, protocol=2)


def check(url: str) -> None:
    """Raises RedisUnavailable, naming the URL without its password, if Redis cannot be used."""
    try:
        with client(url, socket_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise RedisUnavailable(f"Redis at {without_password(url)} cannot be used: {error}") from error


def tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    """What the `ssl_...` options of a rediss:// URL ask for; they mean what they mean to redis-py.

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


class Connection:
    """One blocking connection; not for use by several threads.

    Raises redis.ConnectionError or redis.TimeoutError when Redis is gone; the next call connects anew.
    """

    def __init__(self, url: str) -> None:
        watched = sentinel.is_url(url)
        pool = (primary.pool if watched else ConnectionPool.from_url)(
            url, protocol=2, socket_connect_timeout=CONNECT_TIMEOUT_S,
            # A Redis that is stopped for a while is waited for, unless another one may take its place.
            socket_timeout=primary.REPLY_TIMEOUT_S if watched else None,
            **({} if url.startswith("unix:") else KEEPALIVE),
        )  # fmt: skip
        self._connection: Any = pool.make_connection()
        self.unconfirmed: list[Command] = []

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Sends all commands in one write; returns their replies, errors as ResponseError objects."""
        self._write(commands)
        self._confirm()
        return [self._read() for _ in commands]

    def send(self, commands: Sequence[Command]) -> list[Any]:
        """Sends all commands in one write, and waits until these and all that was posted are confirmed.

        Returns their replies. What Redis refuses is treated as in `read`.
        """
        if commands:
            self._write(commands)
        return self._confirm(commands)

    def read(self, commands: Sequence[Command], blocking: Command, on_blocked: Callable[[bool], None]) -> Any:
        """Sends `commands` and one blocking read in one write; returns the read's reply.

        Calls on_blocked(True) before the wait, when all the others have been answered, and on_blocked(False)
        after it: in between nothing is lost if a signal handler raises. A command that Redis may accept later
        raises its ResponseError and closes the connection; one that it never will is logged and dropped.
        """
        self._write((*commands, blocking))
        self._confirm(commands)
        on_blocked(True)
        reply = self._read()
        on_blocked(False)
        return _checked(reply)

    def post(self, commands: Sequence[Command]) -> None:
        """Sends commands without waiting: their replies are read by the next call, errors as in `read`.

        Until then `unconfirmed` has them, for whoever must send them again after a failure.
        """
        if commands:
            self._write(commands)
            self.unconfirmed += commands

    def _write(self, commands: Sequence[Command]) -> None:
        self._connection.send_packed_command([b"".join(map(pack, commands))])

    def _confirm(self, commands: Sequence[Command] = ()) -> list[Any]:
        replies: list[Any] = []
        for command in (*self.unconfirmed, *commands):
            reply = self._read()
            replies.append(reply)
            if isinstance(reply, redis.ResponseError) and _passes(reply):
                self.close()
                raise reply
            if isinstance(reply, redis.ResponseError):
                log.error("Redis refused %s %s: %s", command[0], command[1], reply)
        replies = replies[len(self.unconfirmed) :]
        self.unconfirmed = []
        return replies

    def execute(self, *command: object) -> Any:
        """One command's reply; raises redis.ResponseError if Redis refuses it."""
        return _checked(self.pipeline([command])[0])

    def run(self, script: scripts.Script, keys: list[str], *args: object) -> Any:
        """Runs a script, loading it first where Redis does not know it yet."""
        command = script.call(keys, *args)
        reply = self.pipeline([command])[0]
        if isinstance(reply, redis.exceptions.NoScriptError):
            self.execute("SCRIPT", "LOAD", script.text)
            reply = self.pipeline([command])[0]
        return _checked(reply)

    def load_scripts(self) -> None:
        self.pipeline([("SCRIPT", "LOAD", script.text) for script in scripts.ALL.values()])

    def close(self) -> None:
        self._connection.disconnect()

    def _read(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.exceptions.ReadOnlyError as error:
            # A primary that was demoted. Nothing was done; whoever connects anew may find its successor.
            self.close()
            raise redis.ConnectionError(f"Redis does not take writes: {error}") from error
        except redis.ResponseError as error:
            return error


def _passes(error: redis.ResponseError) -> bool:
    return isinstance(error, PASSING_ERRORS) or str(error).startswith(PASSING_CODES)


def _checked(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
