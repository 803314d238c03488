"""Entries that are given up: taken from their lanes, answered with an error, kept as dead letters."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from marq import keys
from marq.connections.commands import RedisClient
from marq.connections.urls import Command
from marq.errors import BadRequest, MalformedEntry, ServiceError
from marq.queue import scripts
from marq.queue.entries import decode, may_take_replies
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import JSON_HEADERS, Reply
from marq.registry.spec import ModelSpec
from marq.settings.retention import Retention

# The leading fields of a dead letter, in this order; the fields of the entry follow.
ABOUT = ("reason", "version", "lane", "entry", "attempts", "device", "ending", "log")
Entry = tuple[bytes, list[bytes]]  # (id, fields)
MOST_TAKEN = 100  # entries at a time: their bodies may be large
FIRST = b"0-0"
LONGEST_LOG = 20_000  # characters of the output of a replica


@dataclass(frozen=True)
class Death:
    """Why a request was given up; unknown fields are empty."""

    reason: str
    attempts: int = 0
    device: str = ""
    ending: str = ""  # the cause of the replica's end: "signal 9", "exit code 3", "response time-out"
    log: str = ""  # the last lines that the replica printed


UNTRIED = Death("")


def bury(
    spec: ModelSpec, lane: str, entry: bytes, death: Death, acknowledge: bool = True, body: bytes = b""
) -> list[Command]:
    """The commands that move an entry to its model's dead letters, in one atomic step.

    A job of this entry fails with 400 and the reason. Without `acknowledge` entry and job stay as they are:
    for a transaction that also answers the request. `body` is that of a request whose body is a file: the
    letter has it instead of the reference, as the file ends with the request.
    """
    limits, failure = Retention.from_environment(), BadRequest(death.reason)
    values = (
        death.reason, spec.version, lane, entry, death.attempts, death.device, death.ending,
        death.log[-LONGEST_LOG:],
    )  # fmt: skip
    about = (part for pair in zip(ABOUT, values, strict=True) for part in pair)
    move = scripts.BURY.call(
        [keys.dead_letters(spec.name), lane],
        keys.GROUP, entry, int(acknowledge),
        limits.dead_letter_ttl_s * 1000, limits.dead_letter_max_bytes,
        keys.job(spec.name, ""), limits.job_result_ttl_s * 1000, keys.finished(spec.name),
        failure.status, JSON_HEADERS, failure.body(), body, *about,
    )  # fmt: skip
    return [move]


def refuse(
    spec: ModelSpec, lane: str, entry: bytes, error: MalformedEntry, death: Death = UNTRIED
) -> list[Command]:
    """The commands that answer a malformed entry with 400, if it names a reply stream, and bury it.

    The answer comes first: after a crash in between, the entry is answered again.
    """
    fields = dict(zip(error.fields[::2], error.fields[1::2], strict=True))
    failure = BadRequest(error.reason)
    reply = Reply(fields.get(b"id") or entry, failure.status, failure.body(), JSON_HEADERS)
    named = (fields.get(name, b"") for name in (b"reply", b"replies"))
    streams = (stream if may_take_replies(stream) else b"" for stream in named)
    return [*reply.commands(*streams), *bury(spec, lane, entry, replace(death, reason=error.reason))]


def take(client: RedisClient, lane: str, consumer: str, held: bool = False) -> list[Entry]:
    """The next entries of a lane, at most MOST_TAKEN, which `consumer` then holds; empty if there are none.

    `held`: also those that other consumers hold. Raises redis.RedisError.
    """
    if waiting := client.xreadgroup(keys.GROUP, consumer, {lane: ">"}, count=MOST_TAKEN):
        return [_flat(entry, fields) for entry, fields in waiting[0][1]]
    cursor, taken = FIRST, list[Entry]()
    while held and not taken:
        cursor, found, *_ = client.xautoclaim(lane, keys.GROUP, consumer, 0, cursor, count=MOST_TAKEN)
        # Before version 7 Redis returns None for an entry that was deleted.
        taken = [_flat(entry, fields) for entry, fields in found if entry and fields]
        held = cursor != FIRST
    return taken


def _flat(entry: bytes, fields: dict[bytes, bytes]) -> Entry:
    return entry, [part for pair in fields.items() for part in pair]


def refusals(
    spec: ModelSpec, lane: str, entries: Iterable[Entry], error: ServiceError, ttl_ms: int
) -> list[Command]:
    """The commands that answer entries of a lane with `error`, and remove them.

    The entries must be pending, see `take`: the result of a job is published only while its entry is pending.
    A finished job keeps its result. Malformed entries become dead letters. `ttl_ms`: of the job records.
    """
    publisher = Publisher(spec, "", ttl_ms)
    commands: list[Command] = []
    for entry, fields in entries:
        try:
            commands += publisher.refuse([decode(lane, entry, fields)], error)
        except MalformedEntry as malformed:
            commands += refuse(spec, lane, entry, malformed)
    return commands
