"""Moves entries back to the front of the queue."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from marq import keys
from marq.connections.blocking import Connection
from marq.queue import scripts
from marq.queue.entries import EntryRef, Request
from marq.registry.consumers import aside_name
from marq.registry.spec import ModelSpec

PASSED_ON_MS = 10_000


class Spent(NamedTuple):
    """An entry after its last attempt. It stays pending until the caller answers it."""

    lane: str
    entry: bytes
    attempts: int
    fields: list[bytes]


def requeue(
    connection: Connection,
    spec: ModelSpec,
    consumer: str,
    max_attempts: int,
    running: Iterable[EntryRef] = (),
) -> list[Spent]:
    """Moves all entries that a consumer holds to the front of the queue. Raises redis.RedisError.

    `running` are those that the consumer was running: each counts one more attempt.
    Returns those of them that have had `max_attempts`.
    """
    lanes = keys.lanes(spec.name, spec.version)
    spent = connection.run(
        scripts.REQUEUE,
        [lanes[0], *lanes],
        *(keys.GROUP, consumer, max_attempts, keys.job(spec.name, ""), *(b"%s %s" % ref for ref in running)),
    )
    return [Spent(lane.decode(), entry, attempts, fields) for lane, entry, attempts, fields in spent]


def put_back(connection: Connection, spec: ModelSpec, consumer: str, rows: Sequence[Request]) -> None:
    """Moves rows that a consumer holds and has not begun to the front. Raises redis.RedisError."""
    by_lane: defaultdict[str, list[bytes]] = defaultdict(list)
    for row in rows:
        by_lane[row.lane].append(row.entry)
    aside = aside_name(consumer)
    claims = [("XCLAIM", lane, keys.GROUP, aside, 0, *entries, "JUSTID") for lane, entries in by_lane.items()]
    connection.pipeline(claims)
    requeue(connection, spec, aside, spec.max_attempts)


def pass_on(connection: Connection, spec: ModelSpec, request: Request) -> bool:
    """Moves a row whose body is a file of another host to the front, for a replica there.

    Not for longer than PASSED_ON_MS: then it returns False, and the caller answers the request. Raises
    redis.RedisError.
    """
    front = keys.lane(spec.name, spec.version, keys.FRONT)
    moved = connection.run(scripts.PASS_ON, [request.lane, front], keys.GROUP, request.entry, PASSED_ON_MS)
    return bool(moved)


def still_wanted(connection: Connection, consumer: str, rows: Sequence[Request]) -> list[Request]:
    """The rows that were not cancelled since they were fetched."""
    asked = [("XPENDING", row.lane, keys.GROUP, row.entry, row.entry, 1, consumer) for row in rows]
    return [row for row, pending in zip(rows, connection.pipeline(asked), strict=True) if pending]
