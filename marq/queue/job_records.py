"""Job records: the state and the result of a job."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from marq import keys
from marq.errors import JobNotFound
from marq.queue.ids import JobId

STATES = SCHEDULED, QUEUED, RUNNING, SUCCEEDED, FAILED, EXPIRED, CANCELLED = (
    "scheduled", "queued", "running", "succeeded", "failed", "expired", "cancelled",
)  # fmt: skip
FINISHED = frozenset((SUCCEEDED, FAILED, EXPIRED, CANCELLED))


LONGEST_MESSAGE = 200  # characters, of progress

# Fields of the nodes of a run of a workflow, and the states of its nodes
BEGAN, ENDED, TRIES, FAILED_NODE = "began:", "done:", "try:", "failed"
SIZE, ANSWERED = "size:", "answered:"
NODE_DONE, NODE_QUEUED, NODE_FAILED = "done", "queued", "failed"


@dataclass(frozen=True)
class NodeRecord:
    """One node of a run of a workflow that was queued. Times are unix seconds."""

    name: str
    state: str
    queued: float
    finished: float | None
    tries: int
    elements: int | None = None  # of the input of a node over a list
    elements_done: int | None = None

    def to_dict(self) -> dict[str, object]:
        data = {
            "state": self.state, "queued": self.queued, "finished": self.finished, "tries": self.tries,
            "elements": self.elements, "elements_done": self.elements_done,
        }  # fmt: skip
        return {name: value for name, value in data.items() if value is not None}


@dataclass(frozen=True)
class Progress:
    """How far a job is, as its handler reports it: a fraction from 0 to 1, and a text."""

    fraction: float
    message: str = ""

    @classmethod
    def checked(cls, fraction: float, message: str) -> "Progress":
        """Raises ValueError and TypeError."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"the fraction must be from 0 to 1, not {fraction!r:.100}")
        return cls(round(float(fraction), 4), str(message)[:LONGEST_MESSAGE])

    def encode(self) -> bytes:
        return f"{self.fraction:g} {self.message}".encode(errors="replace")

    @classmethod
    def decode(cls, stored: bytes) -> "Progress":
        fraction, _, message = stored.decode(errors="replace").partition(" ")
        return cls(float(fraction), message)

    def to_dict(self) -> dict[str, object]:
        return {"fraction": self.fraction, "message": self.message}


@dataclass(frozen=True)
class JobRecord:
    """A job at one moment. Times are unix seconds, None for a state that the job has not reached."""

    id: str
    model: str
    version: str
    state: str
    attempts: int = 0
    device: str | None = None
    queued: float | None = None
    started: float | None = None
    finished: float | None = None
    status: int | None = None  # the handler's HTTP status
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    body_ref: bytes = b""  # instead: the file with it
    priority: str | None = None  # the lane that it was queued in
    tags: tuple[str, ...] = ()
    due: float | None = None  # when a scheduled job is queued
    retried: int = 0  # how often it was tried again after the handler had failed
    rows: int = 0  # of the batch in which it ran; 0: unknown
    replay_of: str | None = None  # the id of the request whose dead letter was replayed
    nodes: tuple[NodeRecord, ...] = ()  # of a run of a workflow
    failed_node: str | None = None  # the node that has failed the run
    reason: str | None = None  # why it did
    progress: Progress | None = None  # the newest that the handler has reported
    parts: tuple[bytes, ...] = ()  # the parts streamed so far, unless the job has finished

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    @property
    def timeline(self) -> dict[str, int]:
        """How long a job that has run waited and ran, in ms, and with how many other rows."""
        if self.queued is None or self.started is None or self.finished is None:
            return {}
        return {
            "queued_ms": max(0, round(1000 * (self.started - self.queued))),
            "handler_ms": max(0, round(1000 * (self.finished - self.started))),
            "batched_with": max(0, self.rows - 1),
        }

    def to_dict(self) -> dict[str, object]:
        """The answer of `GET /jobs/{job_id}`: everything except the result itself."""
        data = {
            "job_id": self.id, "state": self.state, "model": self.model, "version": self.version,
            "attempts": self.attempts, "device": self.device, "queued": self.queued,
            "started": self.started, "finished": self.finished, "status": self.status,
            "priority": self.priority, "tags": list(self.tags) or None, "due": self.due,
            "retried": self.retried or None, "replay_of": self.replay_of, **self.timeline,
            "nodes": {node.name: node.to_dict() for node in self.nodes} or None,
            "failed_node": self.failed_node, "reason": self.reason,
            "progress": self.progress.to_dict() if self.progress else None,
        }  # fmt: skip
        return {name: value for name, value in data.items() if value is not None}


def parse_record(
    job: JobId,
    stored: dict[bytes, bytes],
    running_for_ms: int | None = None,
    begin: bytes = b"",
    parts: Sequence[bytes] = (),
) -> JobRecord:
    """Reads a record. Whether a queued job runs is derived from its entry (`running_for_ms`), not stored.

    `begin` and `parts` are the first and the other elements of `keys.parts`; a finished job's body has all
    parts. Raises JobNotFound for an empty record.
    """
    if not stored:
        raise JobNotFound(f"Job not found: {job}")
    text = {name.decode(): value for name, value in stored.items()}
    state, started = text["state"].decode(), _seconds(text.get("started"))
    if state == QUEUED and running_for_ms is not None:
        state, started = RUNNING, time.time() - running_for_ms / 1000
    nodes = _nodes(text)
    if state == QUEUED and any(node.finished or node.elements_done for node in nodes):
        state = RUNNING
    record = JobRecord(
        id=str(job),
        model=job.model,
        version=text["version"].decode(),
        state=state,
        attempts=int(text.get("attempts", 0)),
        device=text["device"].decode() if "device" in text else None,
        queued=_seconds(text.get("queued")),
        started=started,
        finished=_seconds(text.get("finished")),
        status=int(text["status"]) if "status" in text else None,
        headers=json.loads(text.get("headers") or b"{}"),
        body=text.get("body"),
        body_ref=text.get("body_ref", b""),
        priority=text["priority"].decode() if "priority" in text else None,
        tags=tuple(filter(None, text.get("tags", b"").decode().split(","))),
        due=_seconds(text.get("due")) if state == SCHEDULED else None,
        retried=int(text.get("retried", 0)),
        rows=int(text.get("rows", 0)),
        replay_of=text["replay_of"].decode() if "replay_of" in text else None,
        nodes=nodes,
        failed_node=text["failed"].decode() if "failed" in text else None,
        reason=text["reason"].decode("utf-8", "replace") if "reason" in text else None,
        progress=Progress.decode(text["progress"]) if "progress" in text else None,
    )
    return _with_parts(record, begin, parts) if begin else record


def _nodes(stored: Mapping[str, bytes]) -> tuple[NodeRecord, ...]:
    """In the order in which they were queued; empty for other jobs."""
    failed = stored.get(FAILED_NODE, b"").decode()
    found = [_node(field.removeprefix(BEGAN), failed, stored) for field in stored if field.startswith(BEGAN)]
    return tuple(sorted(found, key=lambda node: (node.queued, node.finished or node.queued)))


def _node(name: str, failed: str, stored: Mapping[str, bytes]) -> NodeRecord:
    finished = stored.get(ENDED + name)
    state = NODE_FAILED if name == failed else NODE_DONE if finished else NODE_QUEUED
    return NodeRecord(
        name=name,
        state=state,
        queued=int(stored[BEGAN + name]) / 1000,
        finished=int(finished) / 1000 if finished else None,
        tries=int(stored.get(TRIES + name, 1)),
        elements=int(stored[SIZE + name]) if SIZE + name in stored else None,
        elements_done=int(stored[ANSWERED + name]) if ANSWERED + name in stored else None,
    )


def _with_parts(record: JobRecord, begin: bytes, parts: Sequence[bytes]) -> JobRecord:
    """A failure after the first part is the whole result: the parts were sent with another status."""
    head = json.loads(begin)
    if not record.is_finished:
        return replace(record, status=head["status"], headers=head["headers"], parts=tuple(parts))
    if not completes(begin, record.status or 0):
        return record
    body = b"".join([*parts, record.body or b""])
    return replace(record, status=head["status"], headers=head["headers"], body=body)


def completes(begin: bytes, status: int) -> bool:
    """Whether an answer can end with this status; `begin` is the first element of `keys.parts`."""
    return status < 400 or (begin != b"" and status == json.loads(begin)["status"])


def pending_query(stored: dict[bytes, bytes]) -> tuple[str, str, str, str, int] | None:
    """The XPENDING arguments that show whether a queued job is being run; None for a job in no lane."""
    if stored.get(b"state") != QUEUED.encode() or b"entry" not in stored:  # it waits for its caller's turn
        return None
    entry = stored[b"entry"].decode()
    return stored[b"lane"].decode(), keys.GROUP, entry, entry, 1


def _seconds(milliseconds: bytes | None) -> float | None:
    return int(milliseconds) / 1000 if milliseconds else None
