"""Messages of a handler before it returns: parts of streamed answers, and progress."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from marq.errors import ServiceUnavailable
from marq.queue.entries import Request
from marq.queue.job_records import Progress
from marq.queue.replies.entries import Reply
from marq.reply_rules import WITHOUT_BODY
from workers.handler import replies
from workers.handler.progress import ProgressReports, Reports

if TYPE_CHECKING:
    from ts.context import RequestProcessor

ASK_EVERY_S = 0.2


class PartSink(Protocol):
    """Sends parts and progress to clients."""

    def send(self, answers: list[tuple[Request, Reply]], /) -> None: ...

    def report(self, reports: list[tuple[Request, Progress]], /) -> None: ...

    def find_gone(self, requests: Sequence[Request], gone: set[bytes], /) -> None:
        """Adds the ids of cancelled requests to `gone`, now or later."""


class NobodyWaits(ServiceUnavailable):
    """Raised in the handler when all requests of its batch have been cancelled."""


class PartStream:
    """`context.cl_socket` during one call of the handler. May be used from the handler's own threads."""

    def __init__(
        self, requests: Sequence[Request], processors: "Sequence[RequestProcessor]", sink: PartSink | None
    ) -> None:
        self._requests, self._processors, self._sink = requests, processors, sink
        self._sent: Counter[str] = Counter()
        self._positions: dict[str, int] = {}
        self._gone: set[bytes] = set()
        self._asked = 0.0
        self._reports: ProgressReports | None = None  # few handlers report any
        self.last_sign = 0.0  # of life, monotonic s

    def stream(self, values: Sequence[object], request_ids: Mapping[int, str], status: int) -> None:
        """Sends one part for each value, to the request whose id `request_ids` has at its index.

        A part's status and headers are those that the context has for its request; a `status` other than 200
        comes before the context's. Raises TypeError or ValueError for a value that cannot be encoded,
        KeyError for an id that is not in this batch, and NobodyWaits.
        """
        if not self._positions:
            self._positions = {request.id.decode(): at for at, request in enumerate(self._requests)}
        parts = [self._part(value, request_ids[index], status) for index, value in enumerate(values)]
        self.last_sign = time.monotonic()
        if self._sink is None:
            raise RuntimeError("this call of the handler cannot stream")
        self._look_for_gone(self._sink, self.last_sign)
        self._sink.send([part for part in parts if part[0].id not in self._gone])

    def _part(self, value: object, request_id: str, status: int) -> tuple[Request, Reply]:
        at = self._positions[request_id]
        self._sent[request_id] += 1
        part = replies.encode_reply(self._requests[at], value, self._processors[at])
        part.more = self._sent[request_id]
        if status != 200:
            part.status = replies.check_status(status)
            if part.status in WITHOUT_BODY:
                part.body = b""
        return self._requests[at], part

    def report_progress(self, index: int, fraction: float, message: str = "") -> None:
        """Raises ValueError for a fraction that is not from 0 to 1, IndexError for an unknown request."""
        if not 0 <= index < len(self._requests):
            raise IndexError(f"the batch has {len(self._requests)} requests, none with the index {index}")
        progress = Progress.checked(fraction, message)
        self.last_sign = time.monotonic()
        if self._reports is None:
            self._reports = ProgressReports(self._report)
        self._reports.add(index, progress)

    def _report(self, reports: Reports) -> None:
        if self._sink is not None:
            self._sink.report([(self._requests[index], progress) for index, progress in reports])

    def check_wanted(self) -> None:
        """For a handler that works for long without sending parts. Raises NobodyWaits."""
        if self._sink is not None:
            self._look_for_gone(self._sink, time.monotonic())

    def _look_for_gone(self, sink: PartSink, now: float) -> None:
        if len(self._gone) == len(self._requests):
            raise NobodyWaits("The request was cancelled.")
        if now - self._asked > ASK_EVERY_S:
            self._asked = now
            sink.find_gone(self._requests, self._gone)

    @property
    def used(self) -> bool:
        """Whether a part was sent."""
        return bool(self._sent)

    def __deepcopy__(self, _memo: object) -> "PartStream":
        """A copy of the context has the same stream."""
        return self
