"""How many requests wait for model versions, for describe, status, top and `/metrics`; unread lanes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient, Reply
from marq.connections.urls import Command
from marq.queue import scripts
from marq.registry.spec import ModelSpec

SCANNED_AT_ONCE = 5000


@dataclass(frozen=True)
class LaneDepth:
    """The entries of one lane. An entry stays there until it is answered."""

    waiting: int  # entries that no replica has taken yet; of a seat, those beyond a batch
    waiting_s: float | None  # the age of the oldest of them
    oldest_s: float | None  # the age of the oldest entry


EMPTY = LaneDepth(0, None, None)


@dataclass(frozen=True)
class Depth:
    """The lanes of one model version."""

    lanes: dict[str, LaneDepth]  # by the lane's name; `keys.SEATS` where the replicas have seats

    @property
    def waiting(self) -> int:
        return sum(lane.waiting for lane in self.lanes.values())

    @property
    def oldest_s(self) -> float | None:
        """The age of the oldest request that has no answer yet."""
        return max((lane.oldest_s for lane in self.lanes.values() if lane.oldest_s is not None), default=None)


@dataclass(frozen=True)
class Total:
    """The number of entries of one stream."""

    entries: int
    ever: int | None  # added since the stream began; None where Redis (before 7) does not count them


@dataclass(frozen=True)
class UnreadLane:
    """A stream that has the form of a lane, but is none of a registered version."""

    key: str
    entries: int
    meant: str  # the lane that its producer may have meant, or empty


def read(client: RedisClient, specs: Iterable[ModelSpec]) -> dict[str, Depth]:
    """The depths of these versions by the version's key, in one pipeline.

    A version whose lanes cannot be read counts as empty. Raises redis.RedisError.
    """
    asked = list(specs)
    seat_lanes = _seat_lanes(client, [spec for spec in asked if spec.has_seats])
    calls = [_call(spec, seat_lanes.get(spec.key, ())) for spec in asked]
    replies = clients.pipeline(client, calls)
    return {spec.key: _depth(reply, spec.has_seats) for spec, reply in zip(asked, replies, strict=True)}


def held(client: RedisClient, specs: Iterable[ModelSpec]) -> dict[str, dict[str, int]]:
    """The jobs of each caller that wait for its turns, by the version's key. Raises redis.RedisError."""
    asked = list(specs)
    replies = clients.pipeline(client, [("HGETALL", keys.held_counts(s.name, s.version)) for s in asked])
    return {
        spec.key: _by_caller(reply)
        for spec, reply in zip(asked, replies, strict=True)
        if isinstance(reply, dict)
    }


def _by_caller(counts: dict[bytes, bytes]) -> dict[str, int]:
    callers: dict[str, int] = {}
    for field, number in counts.items():
        _, space, caller = field.decode().partition(" ")  # `LANE CALLER`; others are totals
        if space:
            callers[caller] = callers.get(caller, 0) + int(number)
    return callers


def unread(client: RedisClient, specs: Iterable[ModelSpec]) -> list[UnreadLane]:
    """The lanes with entries that no pool reads, sorted: they are never answered. Raises redis.RedisError.

    It looks at all keys of the database, a few thousand at a time.
    """
    read_ones = sorted(
        lane
        for spec in specs
        for lane in (
            *keys.lanes(spec.name, spec.version),
            *(keys.default_lane(spec.name, name) for name in keys.LANES),
        )
    )
    known = frozenset(read_ones)
    found = client.scan_iter(match=keys.ANY_OF_MODELS, count=SCANNED_AT_ONCE, _type="stream")
    names = sorted({key.decode(errors="replace") for key in found if keys.is_lane(key)} - known)
    return [
        UnreadLane(name, entries, next(iter(get_close_matches(name, read_ones, 1)), ""))
        for name in names
        if (entries := client.xlen(name))
    ]


def totals(client: RedisClient, streams: Sequence[str]) -> list[Total]:
    """The totals of these streams, in one pipeline; of one that cannot be read, zeros.

    Raises redis.RedisError.
    """
    # An error of one call stands in place of its reply.
    replies = clients.pipeline(client, [scripts.TOTAL.call((stream,)) for stream in streams])
    return [
        Total(0, 0) if isinstance(reply, Exception) else Total(reply[0], reply[1] if reply[1] >= 0 else None)
        for reply in replies
    ]


def _call(spec: ModelSpec, seat_lanes: Sequence[str]) -> Command:
    lanes = keys.lanes(spec.name, spec.version)
    return scripts.DEPTH.call([*lanes, *seat_lanes], keys.GROUP, len(lanes), spec.batch_size)


def _seat_lanes(client: RedisClient, specs: Sequence[ModelSpec]) -> dict[str, list[str]]:
    """The lanes of the replicas with a seat, also of those that are ending, by the version's key."""
    replies = clients.pipeline(
        client, [("HKEYS", keys.seat_owners(spec.name, spec.version)) for spec in specs]
    )
    return {
        spec.key: [keys.seat_lane(spec.name, spec.version, seat.decode()) for seat in seats]
        for spec, seats in zip(specs, replies, strict=True)
        if not isinstance(seats, Exception)
    }


def _depth(reply: Reply, has_seats: bool) -> Depth:
    names = (keys.FRONT, *keys.LANES)
    if isinstance(reply, Exception):
        return Depth(dict.fromkeys(names, EMPTY))
    found = [
        LaneDepth(waiting, _seconds(waiting_ms), _seconds(oldest_ms))
        for waiting, waiting_ms, oldest_ms in reply
    ]
    lanes = dict(zip(names, found, strict=False))
    return Depth(lanes | {keys.SEATS: _together(found[len(names) :])} if has_seats else lanes)


def _together(lanes: Sequence[LaneDepth]) -> LaneDepth:
    return LaneDepth(
        sum(lane.waiting for lane in lanes),
        max((lane.waiting_s for lane in lanes if lane.waiting_s is not None), default=None),
        max((lane.oldest_s for lane in lanes if lane.oldest_s is not None), default=None),
    )


def _seconds(age_ms: int) -> float | None:
    return age_ms / 1000 if age_ms >= 0 else None
