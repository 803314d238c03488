"""The output files of a batch: the answers with a status below 400, and those that failed."""

import orjson

from gateway.asgi import Document
from gateway.openai.files import Files, Unfinished
from gateway.openai.lines import Line
from marq.queue.job_records import FAILED, SUCCEEDED, JobRecord

Found = JobRecord | None
NOT_RUN = {
    "cancelled": "The batch was cancelled before this request ran.",
    "expired": "The batch's time ended before this request ran.",
    "completed": "The request was cancelled, or its record is not kept any more.",
}


class Outputs:
    """The files while they are written; each line of the input goes to one of them."""

    def __init__(self, files: Files, batch_id: str, writer: str) -> None:
        self._files, self._batch_id, self._writer = files, batch_id, writer
        self._open: dict[str, Unfinished] = {}
        self._numbers = {"output": 0, "error": 0}

    @property
    def counts(self) -> dict[str, int]:
        completed, failed = self._numbers["output"], self._numbers["error"]
        return {"total": completed + failed, "completed": completed, "failed": failed}

    def add(self, line: Line, record: Found, ending: str) -> None:
        """Writes one line."""
        kind = "output" if record and record.state == SUCCEEDED else "error"
        response, error = _answer(record, ending)
        document = {
            "id": f"batch_req_{self._batch_id.removeprefix('batch_')}_{line.number}",
            "custom_id": line.custom_id, "response": response, "error": error,
        }  # fmt: skip
        if kind not in self._open:
            self._open[kind] = self._files.new(self._id(kind), f".{self._writer}")
        self._open[kind].file.write(orjson.dumps(document) + b"\n")
        self._numbers[kind] += 1

    async def close(self, purpose: str) -> Document:
        """Completes the files; their ids, as fields of the batch. A file without lines does not exist."""
        ids: Document = {}
        for kind in list(self._open):
            name = f"{self._batch_id}_{kind}.jsonl"
            await self._files.add(self._open.pop(kind), self._id(kind), name, purpose)
            ids[f"{kind}_file_id"] = self._id(kind)
        return ids

    def discard(self) -> None:
        """Removes files that were not completed."""
        for written in self._open.values():
            written.discard()

    def _id(self, kind: str) -> str:
        return f"file-{self._batch_id.removeprefix('batch_')}-{kind}"


def _answer(record: Found, ending: str) -> tuple[Document | None, Document | None]:
    if record is None or record.state not in (SUCCEEDED, FAILED):
        code = "batch_expired" if ending == "expired" else "batch_cancelled"
        return None, {"code": code, "message": NOT_RUN[ending]}
    body = record.body or b""
    response: Document = {
        "status_code": record.status or 200, "request_id": str(record.id), "body": _value(body),
    }  # fmt: skip
    return response, None


def _value(body: bytes) -> object:
    """The answer as JSON; one that is not JSON as a text."""
    try:
        value: object = orjson.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace")
    return value
