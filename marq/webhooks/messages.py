"""The messages of webhooks, as they lie in Redis until their receivers have taken them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from marq.queue.job_records import FINISHED


@dataclass(frozen=True)
class Message:
    """A message about a job, or about a group of jobs, that ended at `ended_ms`.

    `status`: that of the job's answer, or empty; `counts`: of the group's jobs, by their final states.
    """

    id: str
    model: str
    url: str
    job: str  # empty for a group
    group: str  # empty for a job
    version: str
    state: str
    status: str
    tags: tuple[str, ...]
    ended_ms: int
    counts: tuple[tuple[str, int], ...] = ()
    tries: int = 0
    error: str = ""  # of the last try

    @classmethod
    def read(cls, model: str, message_id: bytes, flat: Sequence[bytes]) -> "Message":
        """From the names and values of its hash."""
        given = {
            name.decode(): value.decode(errors="replace")
            for name, value in zip(flat[::2], flat[1::2], strict=True)
        }
        is_group = "group" in given
        counts = tuple((state, int(given.get(state) or 0)) for state in sorted(FINISHED))
        return cls(
            id=message_id.decode(),
            model=model,
            url=given.get("url", ""),
            job="" if is_group else f"{model}:{given.get('job', '')}",
            group=f"{model}:{given['group']}" if is_group else "",
            version=given.get("version", ""),
            state="finished" if is_group else given.get("state", ""),
            status=given.get("status", ""),
            tags=tuple(filter(None, given.get("tags", "").split(","))),
            ended_ms=int(given.get("ended", 0)),
            counts=counts if is_group else (),
            tries=int(given.get("tries", 0)),
            error=given.get("error", ""),
        )

    @property
    def about(self) -> str:
        """The id of the job or group."""
        return self.group or self.job

    @property
    def body(self) -> bytes:
        """The same bytes for each try."""
        ended = datetime.fromtimestamp(self.ended_ms / 1000, UTC).isoformat(timespec="milliseconds")
        kind, data = self._of_group if self.group else self._of_job
        message = {"type": kind, "timestamp": ended.replace("+00:00", "Z"), "data": data}
        return json.dumps(message, ensure_ascii=False).encode()

    @property
    def _of_job(self) -> tuple[str, dict[str, object]]:
        return f"job.{self.state}", {
            "job_id": self.job,
            "model": self.model,
            "version": self.version,
            "state": self.state,
            "status": int(self.status) if self.status.isdigit() else None,
            "tags": list(self.tags),
        }

    @property
    def _of_group(self) -> tuple[str, dict[str, object]]:
        return "group.finished", {
            "group": self.group,
            "model": self.model,
            "version": self.version,
            "jobs": sum(number for _, number in self.counts),
            "counts": dict(self.counts),
            "tags": list(self.tags),
        }
