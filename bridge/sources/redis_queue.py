"""A queue of kombu's Redis transport, read in bulk: kombu itself needs three round trips for each message."""

from collections.abc import Sequence

from bridge.messages import Junk, Message
from bridge.sources.source import AT_ONCE, WAIT_S
from marq import keys
from marq.connections.blocking import Connection
from marq.connections.scripts import read

TAKE = read("bridge", "take")
# As kombu's transport names the lists of a queue: `priority_steps` and `sep`.
LISTS = ("", "\x06\x163", "\x06\x166", "\x06\x169")


class RedisQueue:
    """The messages of one queue, the highest priority first. Raises redis.RedisError."""

    def __init__(self, url: str, queue: str, prefix: str) -> None:
        self._connection = Connection(url)
        self._lists = [f"{prefix}{queue}{suffix}" for suffix in LISTS]
        self._taken = prefix + keys.bridge(queue, "taken")

    def take(self) -> Sequence[Message | Junk]:
        raw = self._take()
        if not raw:
            self._connection.execute("BLMOVE", self._lists[0], self._taken, "RIGHT", "RIGHT", WAIT_S)
            raw = self._take()
        return [_parse(each) for each in raw]

    def confirm(self) -> None:
        self._connection.execute("DEL", self._taken)

    def close(self) -> None:
        self._connection.close()

    def _take(self) -> list[bytes]:
        found: list[bytes] = self._connection.run(TAKE, [self._taken, *self._lists], AT_ONCE)
        return found


def _parse(raw: bytes) -> Message | Junk:
    try:
        return Message.of_redis(raw)
    except Junk as junk:
        return junk
