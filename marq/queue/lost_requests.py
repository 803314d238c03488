"""Finds the predictions that Redis has lost, whose clients would wait for ever.

That is rare: a failover to a server that lagged, a restart without a file, a stream that was deleted by hand.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from marq import keys
from marq.connections.commands import Reply
from marq.connections.scripts import Script
from marq.errors import QueueUnavailable
from marq.queue import scripts
from marq.queue.entries import EntryRef
from marq.queue.replies.pending import PendingRequests

LOST = "Redis has lost the request. Send it again."
GRACE_S = 1.0  # for a reply that was published just before its entry was deleted
AT_ONCE = 100  # entries that one script looks for


class Queue(Protocol):
    """The part of a Broker that is used here."""

    stream: str
    pending: PendingRequests

    @property
    def last_reply(self) -> bytes: ...

    def execute(self, *command: object) -> asyncio.Future[Reply]: ...

    async def run(self, script: Script, script_keys: Sequence[str | bytes], *args: object) -> Reply: ...


class LostRequests:
    """Checks the requests that were also pending at the last check: younger requests cost nothing."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._seen: set[bytes] = set()

    async def look(self, broker: Queue) -> None:
        """Fails the predictions that are neither queued nor answered. Raises as Broker.execute."""
        queued = broker.pending.queued()
        old = {request_id: queued[request_id] for request_id in self._seen & queued.keys()}
        self._seen = set(queued)
        missing = await _missing(broker, old)
        if not missing:
            return
        # A request without an entry has been answered: its reply is in the stream, or lost as well.
        newest = await _newest(broker)
        await asyncio.sleep(self._grace_s)
        if _as_numbers(broker.last_reply) >= _as_numbers(newest):
            for request_id in missing:
                broker.pending.fail(request_id, QueueUnavailable(LOST))


async def _missing(broker: Queue, requests: dict[bytes, EntryRef]) -> set[bytes]:
    """The requests without an entry in their lane or at the front, where redelivery moves them."""
    by_lane: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for request_id, where in requests.items():
        by_lane[where.lane] += (where.entry, request_id)
    missing: set[bytes] = set()
    for lane, pairs in by_lane.items():
        for start in range(0, len(pairs), 2 * AT_ONCE):
            some = pairs[start : start + 2 * AT_ONCE]
            missing.update(await broker.run(scripts.MISSING, [lane, keys.front_of(lane)], *some))
    return missing


async def _newest(broker: Queue) -> bytes:
    """The id of the last entry that the reply stream has ever had."""
    flat: list[Reply] = await broker.execute("XINFO", "STREAM", broker.stream)
    return bytes(dict(zip(flat[::2], flat[1::2], strict=True))[b"last-generated-id"])


def _as_numbers(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number or 0)
