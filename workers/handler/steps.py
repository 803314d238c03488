"""Continuous batching: the handler is called with all live rows until each of them has its answer."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from marq.queue.entries import Request
from marq.queue.replies.entries import Reply
from workers.handler.rows import Headers, Row

if TYPE_CHECKING:
    from ts.context import RequestProcessor

NEXT = "ts_stream_next"  # the response header that TorchServe's handlers keep a row with
Criteria = Callable[[object], bool | None]


class LiveRow:
    """A request that the handler works on; the handler gets its data once, and its headers in each step."""

    __slots__ = ("_headers", "_make_headers", "_row", "parts", "request", "started_ms")

    def __init__(
        self, request: Request, row: Row, make_headers: Callable[[], Headers], started_ms: int
    ) -> None:
        self.request, self._row, self.started_ms = request, row, started_ms
        self._make_headers = make_headers
        self._headers: Headers | None = None
        self.parts = 0  # of its answer, so far

    def take(self) -> Row:
        """Its data in the first step, nothing in later ones."""
        row, self._row = self._row, {}
        return row

    def headers(self) -> Headers:
        """The headers of its request."""
        if self._headers is None:
            self._headers = self._make_headers()
        return self._headers


def goes_on(
    criteria: Sequence[Criteria] | None, index: int, value: object, answer: "RequestProcessor"
) -> bool:
    """Whether a row stays live after this step. Raises what the handler's criterion raises.

    The handler says so with `context.stopping_criteria`, a function for each row: False means that more
    follows, True that this was the last part, and None that this is the whole answer. Without them it sets
    the response header `ts_stream_next`.
    """
    kept = answer.get_response_headers().pop(NEXT, None)
    if criteria:
        return criteria[index](value) is False
    return bool(kept == "true")


def number(row: LiveRow, reply: Reply, is_live: bool) -> Reply:
    """The reply as the next part of the row's answer, or as its end."""
    if is_live:
        row.parts += 1
        reply.more = row.parts
    return reply
