"""The requests whose replies are awaited."""

from collections.abc import Callable
from typing import Protocol

from marq.queue.entries import Reply


class Waiting(Protocol):
    """What waits for a reply: an asyncio.Future that also takes parts, or something cheaper.

    `lane` and `entry` tell where the request is, as soon as it is queued.
    """

    lane: bytes
    entry: bytes

    def done(self) -> bool: ...

    def set_part(self, part: Reply, /) -> None: ...

    def set_result(self, reply: Reply, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class Withdrawn:
    """Stands for a request that was given up before Redis told where it is; then it is taken out.

    `take_out` is called with the request's id, its lane and its entry.
    """

    def __init__(
        self, request_id: bytes, lane: bytes, take_out: Callable[[bytes, bytes, bytes], None]
    ) -> None:
        self.lane = lane
        self._request_id, self._take_out = request_id, take_out

    @property
    def entry(self) -> bytes:
        return b""

    @entry.setter
    def entry(self, entry: bytes) -> None:
        self._take_out(self._request_id, self.lane, entry)

    def done(self) -> bool:
        return True

    def set_part(self, part: Reply, /) -> None:
        """Nobody waits for it."""

    def set_result(self, reply: Reply, /) -> None:
        """Nobody waits for it."""

    def set_exception(self, error: Exception, /) -> None:
        """Nobody waits for it."""
