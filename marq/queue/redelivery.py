"""Moves entries back to the front of the queue."""

from collections import defaultdict
from collections.abc import Sequence

from marq import keys
from marq.connections.blocking import Connection
from marq.queue import scripts
from marq.queue.consumers import aside_name
from marq.queue.entries import Request
from marq.registry.spec import ModelSpec


def put_back(connection: Connection, spec: ModelSpec, consumer: str, rows: Sequence[Request]) -> None:
    """Moves rows that a consumer holds and has not begun to the front. Raises redis.RedisError."""
    by_lane: defaultdict[str, list[bytes]] = defaultdict(list)
    for row in rows:
        by_lane[row.lane].append(row.entry)
    aside, lanes = aside_name(consumer), keys.lanes(spec.name, spec.version)
    claims = [("XCLAIM", lane, keys.GROUP, aside, 0, *entries, "JUSTID") for lane, entries in by_lane.items()]
    connection.pipeline(claims)
    connection.run(
        scripts.REQUEUE, [lanes[0], *lanes], keys.GROUP, aside, spec.max_attempts, keys.job(spec.name, ""),
    )  # fmt: skip


def still_wanted(connection: Connection, consumer: str, rows: Sequence[Request]) -> list[Request]:
    """Those of the rows that nobody has withdrawn or cancelled since they were fetched."""
    asked = [("XPENDING", row.lane, keys.GROUP, row.entry, row.entry, 1, consumer) for row in rows]
    return [row for row, pending in zip(rows, connection.pipeline(asked), strict=True) if pending]
