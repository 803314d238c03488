"""The blocking, pipelined connection that pools and replicas use.

redis-py opens the connection (TCP, TLS or Unix socket, password, database). hiredis packs the commands and
parses the replies, without redis-py's per-command response handling, which costs more than the command.
"""

import logging
import weakref
from collections.abc import Callable, Sequence
from typing import Protocol

import redis
from redis.connection import ConnectionPool

from marq.connections import primary, scripts, sentinels
from marq.connections.commands import Reply
from marq.connections.scripts import Script
from marq.connections.urls import CONNECT_TIMEOUT_S, KEEPALIVE, Command, pack

log = logging.getLogger(__name__)
PASSING_ERRORS = (  # replies of a Redis that restarts or is full: the command is sent again later
    redis.exceptions.NoScriptError,
    redis.exceptions.OutOfMemoryError,
)
# Those without a class in redis-py: `min-replicas-to-write` is not met, or the disk is full.
PASSING_CODES = ("NOREPLICAS", "MISCONF")


_every: "weakref.WeakSet[Connection]" = weakref.WeakSet()


def close_all() -> None:
    """Closes this process's copies of all connections; for a fork, whose parent goes on using them."""
    for connection in list(_every):
        connection.close()


class Wire(Protocol):
    """The part of redis-py's connections that is used here."""

    def send_packed_command(self, command: list[bytes]) -> object: ...
    def read_response(self) -> Reply: ...
    def disconnect(self) -> object: ...


class Connection:
    """One blocking connection; not for use by several threads.

    Raises redis.ConnectionError or redis.TimeoutError when it is lost; the next call connects again.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        watched = sentinels.is_url(url)
        pool = (primary.pool if watched else ConnectionPool.from_url)(
            url, protocol=2, socket_connect_timeout=CONNECT_TIMEOUT_S,
            # No time-out: Redis may be stopped for a while. With sentinels another server may take its place.
            socket_timeout=primary.REPLY_TIMEOUT_S if watched else None,
            **({} if url.startswith("unix:") else KEEPALIVE),
        )  # fmt: skip
        self._connection: Wire = pool.make_connection()
        self.unconfirmed: list[Command] = []
        _every.add(self)

    def pipeline(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends all commands in one write; returns their replies, errors as ResponseError objects.

        Scripts that Redis does not know are loaded, here and by the other methods.
        """
        self._write(commands)
        self._confirm()
        replies = [self._read() for _ in commands]
        self._run_again(commands, replies)
        return replies

    def transaction(self, commands: Sequence[Command]) -> None:
        """Runs all commands or none. Raises redis.ResponseError if Redis runs none."""
        before = [*scripts.loads(commands), ("MULTI",)]
        *_, done = self.pipeline([*before, *commands, ("EXEC",)])
        checked(done)

    def send(self, commands: Sequence[Command]) -> list[Reply]:
        """Sends all commands in one write, and waits until these and all posted commands are confirmed.

        Returns their replies. Refused commands are treated as in `read`.
        """
        if commands:
            self._write(commands)
        return self._confirm(commands)

    def read(
        self, commands: Sequence[Command], blocking: Command, on_blocked: Callable[[bool], None]
    ) -> Reply:
        """Sends `commands` and one blocking read in one write; returns the read's reply.

        Calls on_blocked(True) before the wait, when all the others have been answered, and on_blocked(False)
        after it: in between nothing is lost if a signal handler raises. A command that Redis may accept later
        raises its ResponseError and closes the connection; any other refused command is logged and dropped.
        """
        self._write((*commands, blocking))
        self._confirm(commands)
        on_blocked(True)
        reply = self._read()
        on_blocked(False)
        return checked(reply)

    def post(self, commands: Sequence[Command]) -> None:
        """Sends commands without waiting: their replies are read by the next call, errors as in `read`.

        Until then `unconfirmed` has them: after a failure the caller sends them again.
        """
        if commands:
            self._write(commands)
            self.unconfirmed += commands

    def collect(self) -> list[Reply]:
        """Waits for the replies of all posted commands, and returns them. Errors are treated as in `read`."""
        return self._confirm_all(self.unconfirmed)

    def _write(self, commands: Sequence[Command]) -> None:
        self._connection.send_packed_command([b"".join(map(pack, commands))])

    def _confirm(self, commands: Sequence[Command] = ()) -> list[Reply]:
        posted = len(self.unconfirmed)
        return self._confirm_all((*self.unconfirmed, *commands))[posted:]

    def _confirm_all(self, sent: Sequence[Command]) -> list[Reply]:
        replies: list[Reply] = []
        refused = False
        for _ in sent:
            reply = self._read()
            refused = refused or isinstance(reply, redis.ResponseError)
            replies.append(reply)
        if refused:
            self._settle_refused(sent, replies)
        self.unconfirmed = []
        return replies

    def _settle_refused(self, sent: Sequence[Command], replies: list[Reply]) -> None:
        self._run_again(sent, replies)
        for command, reply in zip(sent, replies, strict=True):
            if isinstance(reply, redis.ResponseError):
                if _passes(reply):
                    self.close()
                    raise reply
                log.error("Redis refused %s %s: %s", command[0], command[1], reply)

    def _run_again(self, sent: Sequence[Command], replies: list[Reply]) -> None:
        """Runs the script calls again that Redis did not know, over another connection: this one may already
        wait for a blocking read."""
        again = scripts.rerun(sent, replies)
        if again is None:
            return
        aside = Connection(self._url)
        try:
            again.merge(replies, aside._exchange(again.commands))
        except redis.RedisError:
            self.close()
            raise
        finally:
            aside.close()

    def _exchange(self, commands: Sequence[Command]) -> list[Reply]:
        self._write(commands)
        return [self._read() for _ in commands]

    def execute(self, *command: object) -> Reply:
        """One command's reply; raises redis.ResponseError if Redis refuses it."""
        return checked(self.pipeline([command])[0])

    def run(self, script: Script, keys: Sequence[str], *args: object) -> Reply:
        """One script's reply; raises redis.ResponseError if Redis refuses it."""
        return checked(self.pipeline([script.call(keys, *args)])[0])

    def close(self) -> None:
        self._connection.disconnect()

    def _read(self) -> Reply:
        try:
            return self._connection.read_response()
        except redis.exceptions.ReadOnlyError as error:
            # A demoted primary, which has done nothing: a new connection may reach its successor.
            self.close()
            raise redis.ConnectionError(f"Redis does not take writes: {error}") from error
        except redis.ResponseError as error:
            return error


def _passes(error: redis.ResponseError) -> bool:
    return isinstance(error, PASSING_ERRORS) or str(error).startswith(PASSING_CODES)


def checked(reply: Reply) -> Reply:
    """The reply; an error is raised."""
    if isinstance(reply, Exception):
        raise reply
    return reply
