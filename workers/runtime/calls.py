"""One call of the handler: rows in, replies out, every outcome mapped to a status."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from marq.message import Reply, Request
from ts.context import RequestProcessor
from ts.utils.util import PredictionException
from workers.runtime import responses, rows

log = logging.getLogger(__name__)

Handle = Callable[[list[Any], Any], Any]


class HandlerCall:
    """Runs a loaded handler on batches of requests; never raises for what the handler does."""

    def __init__(self, handle: Handle, context: Any, decode_input: bool, max_response_size: int) -> None:
        self._handle = handle
        self._context = context
        self._decode_input = decode_input
        self._max_response_size = max_response_size

    def run(self, requests: Sequence[Request]) -> list[Reply]:
        """One reply for each request, in their order."""
        data, processors = self._prepare(requests)
        try:
            returned = responses.check(self._handle(data, self._context), len(requests))
        except responses.BatchFailed as error:
            return self._fail(requests, error.status, error.message)
        except PredictionException as error:
            return self._fail(requests, _status(error.error_code), _text(error.message))
        except MemoryError:
            return self._fail(requests, 507, "Out of resources")
        except (Exception, SystemExit) as error:
            if "CUDA" in _text(error):
                return self._fail(requests, 507, "Out of resources")
            return self._fail(requests, 503, "Prediction failed")
        return responses.build(requests, returned, processors, self._max_response_size)

    def _prepare(self, requests: Sequence[Request]) -> tuple[list[rows.Row], list[RequestProcessor]]:
        data: list[rows.Row] = []
        processors: list[RequestProcessor] = []
        for request in requests:
            row, headers = rows.build(request, self._decode_input)
            data.append(row)
            processors.append(RequestProcessor(headers))
        ids = {index: request.id.decode() for index, request in enumerate(requests)}
        self._context.request_ids = ids
        self._context.request_processor = processors
        self._context.metrics.request_ids = ids
        return data, processors

    def _fail(self, requests: Sequence[Request], status: int, message: str) -> list[Reply]:
        ids = ", ".join(request.id.decode() for request in requests)
        log.error("%d %s. Requests: %s", status, message, ids, exc_info=True)
        return responses.failures(requests, status, message)


def _status(given: Any) -> int:
    """The status that a handler asks for; 500 for what is none."""
    try:
        status = responses.check_status(given)
    except (TypeError, ValueError):
        return 500
    return 507 if status == 413 else status


def _text(value: object) -> str:
    """`str(value)`, also of a handler's own class that fails there."""
    try:
        return str(value)
    except Exception:
        return type(value).__name__
