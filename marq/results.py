"""Job records: what a submitter can learn of a job, and the job ids that clients see."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

from marq import keys
from marq.errors import JobNotFound

QUEUED, RUNNING, SUCCEEDED, FAILED, EXPIRED, CANCELLED = (
    "queued", "running", "succeeded", "failed", "expired", "cancelled",
)  # fmt: skip
FINISHED = frozenset((SUCCEEDED, FAILED, EXPIRED, CANCELLED))


def job_id(model: str, request_id: str) -> str:
    """The public id of a job. It names the model, so that its record's key can be built from it."""
    return f"{model}:{request_id}"


def split_job_id(public_id: str) -> tuple[str, str]:
    """(model, request id) of a public id. Raises JobNotFound."""
    model, separator, request_id = public_id.partition(":")
    if not separator or not model or not request_id or set("{}") & set(model):
        raise JobNotFound(f"Job not found: {public_id}")
    return model, request_id


@dataclass(frozen=True)
class JobRecord:
    """A job at one moment. Times are unix seconds, None where the job has not come that far."""

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

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED

    def to_dict(self) -> dict[str, Any]:
        """What `GET /jobs/{job_id}` tells: all but the result itself."""
        data = {
            "job_id": self.id, "state": self.state, "model": self.model, "version": self.version,
            "attempts": self.attempts, "device": self.device, "queued": self.queued,
            "started": self.started, "finished": self.finished, "status": self.status,
        }  # fmt: skip
        return {name: value for name, value in data.items() if value is not None}


def parse_record(public_id: str, stored: dict[bytes, bytes], running_for_ms: int | None) -> JobRecord:
    """Reads a record. Whether a queued job runs is derived from its entry (`running_for_ms`), not stored.

    Raises JobNotFound for an empty record.
    """
    if not stored:
        raise JobNotFound(f"Job not found: {public_id}")
    text = {name.decode(): value for name, value in stored.items()}
    state, started = text["state"].decode(), _seconds(text.get("started"))
    if state == QUEUED and running_for_ms is not None:
        state, started = RUNNING, time.time() - running_for_ms / 1000
    return JobRecord(
        id=public_id,
        model=split_job_id(public_id)[0],
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
    )


def pending_query(stored: dict[bytes, bytes]) -> tuple[str, str, str, str, int] | None:
    """The XPENDING arguments that tell whether a queued job is being run; None once it is finished."""
    if stored.get(b"state") != QUEUED.encode():
        return None
    entry = stored[b"entry"].decode()
    return stored[b"lane"].decode(), keys.GROUP, entry, entry, 1


def _seconds(milliseconds: bytes | None) -> float | None:
    return int(milliseconds) / 1000 if milliseconds else None
