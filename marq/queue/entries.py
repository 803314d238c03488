"""The queue contract, version 3: the fields of a request entry. Those of replies are in `replies/entries.py`.

A request entry is flat fields, so that a producer in any language needs only `XADD`. Only `body` is
required; a large body may be a file of the host that both sides share, or a key, which `body_ref` names
instead.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from marq import keys
from marq.errors import MalformedEntry
from marq.payloads import body_keys
from marq.payloads.folder import Upload
from marq.payloads.place import is_ref

VERSION = 3
DEFAULT_TTL_MS = 3_600_000  # how long a finished job's record is kept
MOST_DIGITS = 19  # of a number: a longer one is not a time, and Python refuses to read it
ROW_TYPE = b"application/x-marq-row"  # the answers of several nodes of a workflow, see `row_fields`
OWN, REPLIES = keys.PREFIX.encode(), keys.replies("").encode()


@dataclass(frozen=True)
class EntryHead:
    """The fields of a request entry that describe its body. Requests may share a head, which is packed once.

    The fields mean what they mean in a Request; empty ones are left out.
    """

    type: bytes = b""
    headers: bytes = b""
    path: bytes | None = None
    params: bytes = b""
    deadline: bytes = b""
    job: bytes = b""
    attempts: bytes = b""
    reply: bytes = b""
    sequence: bytes = b""
    sequence_start: bytes = b""
    sequence_end: bytes = b""
    options: tuple[bytes, ...] = ()  # more fields, of a job: names and values in turn

    @cached_property
    def flat(self) -> tuple[bytes, ...]:
        """Names and values in turn, as XADD takes them."""
        given: list[bytes] = [] if self.path is None else [b"path", self.path]  # it may be empty
        for name in _HEAD_FIELDS:
            if value := getattr(self, name):
                given += (name.encode(), value)
        return (*given, *self.options)

    @cached_property
    def packed(self) -> bytes:
        """The same, as parts of a packed Redis command."""
        return b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in self.flat)

    @cached_property
    def of_job(self) -> "EntryHead":
        """The same for a job."""
        return replace(self, job=b"1")


_HEAD_FIELDS = (
    "type", "headers", "params", "deadline", "job", "attempts", "reply", "sequence", "sequence_start",
    "sequence_end",
)  # fmt: skip
PLAIN = EntryHead()


class EntryFields:
    """The fields of a request entry, but for its id and the reply stream of a gateway or client.

    With a `file` the body is there, and `body` is empty.
    """

    __slots__ = ("body", "file", "head")

    def __init__(self, body: bytes, head: EntryHead = PLAIN, file: Upload | None = None) -> None:
        self.body, self.head, self.file = body, head, file

    @property
    def size(self) -> int:
        """Bytes of the body."""
        return len(self.body) if self.file is None else self.file.size

    def flat(self) -> tuple[bytes, ...]:
        """Names and values in turn, as XADD takes them."""
        return (*self.head.flat, *self.body_field)

    @property
    def body_field(self) -> tuple[bytes, bytes]:
        """The name and the value of the field with the body."""
        return (b"body", self.body) if self.file is None else (b"body_ref", self.file.ref)


class EntryRef(NamedTuple):
    """The location of an entry: the key of its stream, and its id there."""

    lane: bytes
    entry: bytes


@dataclass(slots=True)
class Request:
    """One row for the handler.

    `entry` and `lane` locate it in Redis; everything else is a field of the entry, with the default that
    a producer gets by leaving it out.
    """

    entry: bytes
    lane: str
    body: bytes | bytearray = b""
    id: bytes = b""  # default: the entry's id
    type: bytes = b""  # content type
    headers: bytes = b""  # JSON object of the client's headers
    path: bytes | None = None  # the part of the client's path after the version
    params: bytes = b""  # urlencoded: more keys of the row, before those of the body
    reply: bytes = b""  # stream to answer on, one entry for each reply
    replies: bytes = b""  # the same for readers that take several replies in one entry
    job: bytes = b""  # "1": keep the result to be polled
    deadline: bytes = b""  # unix ms; the request is not started later
    attempts: bytes = b"0"  # how many replicas were lost while they ran it
    trace: bytes = b""  # W3C traceparent
    body_ref: bytes = b""  # instead of `body`: the file or key with it
    input_url: bytes = b""  # of a job: where the body is; empty once the replica has it
    output_url: bytes = b""  # of a job: where the result is put
    store: bytes = b""  # of a job: the store of files whose reader asks for the result
    sequence: bytes = b""  # id of the sequence that it belongs to
    sequence_start: bytes = b""  # "1": the first request of the sequence
    sequence_end: bytes = b""  # "1": the last one
    run: bytes = b""  # the record of the run of a workflow that it belongs to
    node: bytes = b""  # of that workflow

    @property
    def ref(self) -> EntryRef:
        """The location of its entry."""
        return EntryRef(self.lane.encode(), self.entry)

    @property
    def queued_ms(self) -> int:
        """When the entry was added, unix ms of the Redis server's clock."""
        return int(self.entry.partition(b"-")[0])


FIELDS = {
    name.encode(): name
    for name in (
        "body", "body_ref", "id", "type", "headers", "path", "params", "reply", "replies", "job", "deadline",
        "attempts", "trace", "sequence", "sequence_start", "sequence_end",
        "run", "node", "store", "input_url", "output_url",
    )
}  # fmt: skip


USUAL = frozenset((b"body", b"id", b"type", b"headers", b"replies"))  # fields of a plain prediction


def decode(lane: str, entry: bytes, fields: list[bytes]) -> Request:
    """Reads one entry. Unknown fields are ignored. Raises MalformedEntry with the reason."""
    values = iter(fields)
    given = dict(zip(values, values, strict=True))
    if b"body" not in given and b"body_ref" not in given:
        raise MalformedEntry("the field `body` is missing", fields)
    if b"body_ref" in given and not (is_ref(given[b"body_ref"]) or body_keys.is_ref(given[b"body_ref"])):
        raise MalformedEntry("the field `body_ref` is not the reference of a file or a key", fields)
    _check_values(given, fields)
    get = given.get
    # By position, because this is on the hot path
    request = Request(entry, lane, get(b"body", b""), b"", get(b"type", b""), get(b"headers", b""))
    request.replies = get(b"replies", b"")
    if not USUAL.issuperset(given):
        for name in FIELDS.keys() & given.keys():
            setattr(request, FIELDS[name], given[name])
    request.id = get(b"id") or entry
    return request


def _check_values(given: dict[bytes, bytes], fields: list[bytes]) -> None:
    for name in (b"deadline", b"attempts"):
        if name in given and not (given[name].isdigit() and len(given[name]) <= MOST_DIGITS):
            raise MalformedEntry(
                f"the field `{name.decode()}` must be a whole number, not {given[name]!r:.40}", fields
            )
    if b"run" in given and not is_run(given[b"run"]):
        raise MalformedEntry("the field `run` must name the record of a run", fields)
    for name in (b"reply", b"replies"):
        if name in given and not may_take_replies(given[name]):
            raise MalformedEntry(f"the field `{name.decode()}` must not name a key of marq's own", fields)
    for name in (b"id", b"path", b"sequence", b"node"):
        if name in given and not _is_text(given[name]):
            raise MalformedEntry(
                f"the field `{name.decode()}` must be UTF-8, not {given[name]!r:.40}", fields
            )


def is_run(key: bytes) -> bool:
    """Whether a key may be the record of a run of a workflow."""
    return key.startswith(OWN + b"{") and (b"}:run:" in key or b"}:job:" in key)


def may_take_replies(stream: bytes) -> bool:
    """Whether a producer may name this key as its reply stream: marq's other keys are refused."""
    return stream.startswith(REPLIES) or not stream.startswith(OWN)


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def row_fields(body: bytes) -> dict[str, bytes]:
    """The names and values in a body of ROW_TYPE (run_entries.lua). Raises ValueError for another text."""
    values: list[bytes] = []
    start = 0
    while start < len(body):
        colon = body.index(b":", start)
        end = colon + 1 + int(body[start:colon])
        if body[end : end + 1] != b",":
            raise ValueError("the body is not a row")
        values.append(body[colon + 1 : end])
        start = end + 1
    return {name.decode(): value for name, value in zip(values[::2], values[1::2], strict=True)}
