"""Makes one reply for each request from the handler's result (TorchServe's rules)."""

import inspect
import io
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from marq import reply_rules
from marq.errors import WorkerFailed, error_body
from marq.queue.entries import Request
from marq.queue.replies.entries import JSON_HEADERS, Reply

if TYPE_CHECKING:  # pools, which refuse requests, do not load it
    from ts.context import RequestProcessor

log = logging.getLogger(__name__)


class BatchFailed(WorkerFailed):
    """Raised when the handler's call as a whole has no usable result.

    The first line of the message is TorchServe's, the next one says what came.
    """

    def __init__(self, message: str, came: str) -> None:
        super().__init__(f"{message}\nThe handler returned {came}.", 503)


def encode(value: object) -> bytes:
    """The body for one element of the handler's list. Raises TypeError or ValueError if it has none."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray):
        return bytes(value)
    torch = sys.modules.get("torch")  # a handler that returns tensors has imported it
    if torch is not None and isinstance(value, torch.Tensor):
        buffer = io.BytesIO()
        torch.save(value, buffer)
        return buffer.getvalue()
    return json.dumps(value, indent=2).encode()


def check(returned: object, rows: int) -> list[object]:
    """The handler's list. Raises BatchFailed unless it is a list with one element for each row."""
    came = f"{type(returned).__name__} for a batch of {rows}, not a list"
    if inspect.iscoroutine(returned):
        returned.close()
        came += "; handle is a coroutine function: set `asyncCommunication: true` in model-config.yaml"
    if not isinstance(returned, list):
        raise BatchFailed("Invalid model predict output", came)
    if len(returned) != rows:
        came = f"a list of {len(returned)} for a batch of {rows}"
        raise BatchFailed("number of batch response mismatched", came)
    return returned


def build(
    requests: Sequence[Request], values: list[object], processors: "Sequence[RequestProcessor]", max_size: int
) -> list[Reply]:
    """One reply for each request; an element that cannot be sent fails its own request only."""
    return [
        _reply(request, value, processor, max_size)
        for request, value, processor in zip(requests, values, processors, strict=True)
    ]


def failures(
    requests: Sequence[Request], status: int, message: str, kind: str = WorkerFailed.type
) -> list[Reply]:
    """The same error for each request."""
    body = b"" if status in reply_rules.WITHOUT_BODY else error_body(status, kind, message)
    return [Reply(request.id, status, body, JSON_HEADERS) for request in requests]


def encode_reply(request: Request, value: object, processor: "RequestProcessor") -> Reply:
    """The reply with one element of the handler's list: what any HTTP server can send.

    Raises TypeError or ValueError for a status or header that HTTP does not allow, and the exceptions of
    the encoding of the element's class.
    """
    body = encode(value)
    headers = _encode_headers(processor.get_response_headers())
    status = check_status(processor.get_response_status_code())
    return Reply(request.id, status, b"" if status in reply_rules.WITHOUT_BODY else body, headers)


def _reply(request: Request, value: object, processor: "RequestProcessor", max_size: int) -> Reply:
    try:
        reply = encode_reply(request, value, processor)
    except BaseException:  # classes of the handler may raise anything when they are encoded
        log.exception("request %s fails with 503: its answer cannot be encoded", request.id.decode())
        return failures([request], 503, "Unsupported model output data type.")[0]
    if len(reply.body) > max_size:
        text = f"The response has {len(reply.body)} bytes; max_response_size allows {max_size}."
        return failures([request], 500, text)[0]
    return reply


def check_status(given: Any) -> int:
    """The status that a handler asks for. Raises TypeError or ValueError if a response cannot have it."""
    try:
        status = int(given)
    except OverflowError as error:
        raise ValueError(str(error)) from error
    if not reply_rules.is_final_status(status):
        raise ValueError(f"the status of an answer is a number from 200 to 599, not {status}")
    return status


def _encode_headers(headers: Mapping[str, object]) -> bytes:
    return _encode_items(tuple(headers.items())) if headers else b""


@lru_cache(maxsize=64)  # most handlers set the same headers on each answer
def _encode_items(items: tuple[tuple[str, object], ...]) -> bytes:
    sent: dict[str, tuple[str, str]] = {}  # of two spellings of a name, the last one counts
    for name, value in items:
        if fault := reply_rules.header_fault(name, value):
            raise ValueError(fault)
        if reply_rules.is_servers_own(name):
            log.warning("the response header %s is dropped: only the server can set it", name)
        else:
            text = str(value)
            text = text if text.isascii() else text.encode("latin-1", "replace").decode("latin-1")
            sent[name.lower()] = (name, text)
    return json.dumps(dict(sent.values())).encode() if sent else b""
