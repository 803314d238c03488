"""Results in bulk: Celery's backend for Redis needs two round trips for each."""

from collections.abc import Sequence
from typing import Any

import redis
from celery.backends.redis import RedisBackend

from marq.connections.urls import pack


class BulkSender:
    """Writes results as the backend does, many in one write, over a connection of its pool.

    Raises redis.RedisError.
    """

    def __init__(self, backend: RedisBackend) -> None:
        self._connection: Any = backend.client.connection_pool.make_connection()

    def send(self, entries: Sequence[tuple[bytes, bytes, int]]) -> None:
        """Stores and announces results: key, value, and time to live in s (0: for ever) of each."""
        commands = []
        for key, value, ttl_s in entries:
            commands.append(pack(("SET", key, value, "EX", ttl_s) if ttl_s else ("SET", key, value)))
            commands.append(pack(("PUBLISH", key, value)))
        try:
            self._connection.send_packed_command([b"".join(commands)])
            replies = [self._read() for _ in commands]
        except BaseException:
            self._connection.disconnect()
            raise
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply

    def _read(self) -> Any:
        try:
            return self._connection.read_response()
        except redis.ResponseError as error:
            return error
