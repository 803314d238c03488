"""The messages of webhooks, as they lie in Redis until their receivers have taken them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Message:
    """A message about a job that ended at `ended_ms`. `status`: that of the job's answer, or empty."""

    id: str
    model: str
    url: str
    job: str
    version: str
    state: str
    status: str
    tags: tuple[str, ...]
    ended_ms: int
    tries: int = 0
    error: str = ""  # of the last try

    @classmethod
    def read(cls, model: str, message_id: bytes, flat: Sequence[bytes]) -> "Message":
        """From the names and values of its hash."""
        given = {
            name.decode(): value.decode(errors="replace")
            for name, value in zip(flat[::2], flat[1::2], strict=True)
        }
        return cls(
            id=message_id.decode(),
            model=model,
            url=given.get("url", ""),
            job=f"{model}:{given.get('job', '')}",
            version=given.get("version", ""),
            state=given.get("state", ""),
            status=given.get("status", ""),
            tags=tuple(filter(None, given.get("tags", "").split(","))),
            ended_ms=int(given.get("ended", 0)),
            tries=int(given.get("tries", 0)),
            error=given.get("error", ""),
        )

    @property
    def body(self) -> bytes:
        """The same bytes for each try."""
        ended = datetime.fromtimestamp(self.ended_ms / 1000, UTC).isoformat(timespec="milliseconds")
        data = {
            "job_id": self.job,
            "model": self.model,
            "version": self.version,
            "state": self.state,
            "status": int(self.status) if self.status.isdigit() else None,
            "tags": list(self.tags),
        }
        message = {"type": f"job.{self.state}", "timestamp": ended.replace("+00:00", "Z"), "data": data}
        return json.dumps(message, ensure_ascii=False).encode()
