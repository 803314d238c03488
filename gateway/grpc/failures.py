"""Errors as gRPC clients get them: a code, and a description with the second line that TorchServe writes."""

import json

import grpc

from marq.errors import BadRequest, InvalidToken, ModelNotFound, ModelVersionNotFound, ServiceError
from marq.queue.replies.entries import Reply

Code = grpc.StatusCode

MOST_TEXT = 1_500  # characters: a description is a header, and clients refuse more than 8 KiB of headers
RETRY_AFTER = "retry-after"

# Second lines
BAD_REQUEST = "BadRequestException.()"
REFUSED = "InternalServerException.()"
FAILED = "org.pytorch.serve.http.InternalServerException"

_PACKAGES = {
    "DownloadArchiveException": "archive",
    "InvalidModelException": "archive.model",
    "InvalidModelVersionException": "archive.model",
    "ModelException": "archive.model",
    "ModelNotFoundException": "archive.model",
    "ModelVersionNotFoundException": "archive.model",
}

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    413: Code.RESOURCE_EXHAUSTED,
    416: Code.OUT_OF_RANGE,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}
_CODES_OF_HUNDREDS = {2: Code.OK, 4: Code.FAILED_PRECONDITION, 5: Code.INTERNAL}


def code_of(status: int) -> Code:
    """The code of an HTTP status, as TorchServe maps it."""
    return _CODES.get(status) or _CODES_OF_HUNDREDS.get(status // 100, Code.UNKNOWN)


def class_of(kind: str) -> str:
    """The full name of TorchServe's class for the type of an error."""
    return f"org.pytorch.serve.{_PACKAGES.get(kind, 'http')}.{kind}"


class Failure(Exception):
    """Ends a call. `status` is the HTTP status that metrics count; `retry_after` seconds, or empty."""

    def __init__(self, code: Code, text: str, status: int, retry_after: str = "") -> None:
        super().__init__(text)
        self.code, self.text, self.status, self.retry_after = code, text[:MOST_TEXT], status, retry_after

    @property
    def trailers(self) -> tuple[tuple[str, str], ...]:
        """The trailing metadata."""
        return ((RETRY_AFTER, self.retry_after),) if self.retry_after else ()

    @property
    def number(self) -> int:
        """The number of the code."""
        return number_of(self.code)


def number_of(code: Code) -> int:
    """The number of a code in messages and logs."""
    number: int = code.value[0]
    return number


def without_name(parameter: str) -> Failure:
    """A required field is empty: INTERNAL, as in TorchServe."""
    return Failure(Code.INTERNAL, f"Parameter {parameter} is required.\n{BAD_REQUEST}", 400)


def unreadable() -> Failure:
    """The bytes are not a message of the method."""
    return Failure(Code.INVALID_ARGUMENT, f"The request cannot be decoded.\n{BAD_REQUEST}", 400)


def unknown(error: ServiceError, not_found: Code) -> Failure:
    """A model that cannot be found, or a token that is not valid; `not_found` is the code of the first."""
    if isinstance(error, InvalidToken):
        return Failure(Code.UNAUTHENTICATED, error.message, error.status)
    if isinstance(error, ModelNotFound | ModelVersionNotFound):
        return Failure(not_found, f"{error.message}\n{class_of(error.type)}", error.status)
    return refused(error)


def refused(error: ServiceError) -> Failure:
    """A request that is not queued."""
    return _of(error, BAD_REQUEST if error.type == BadRequest.type else REFUSED)


def failed(error: ServiceError) -> Failure:
    """A request that was queued, and was not answered."""
    return _of(error, FAILED)


def of_reply(reply: Reply) -> Failure:
    """An answer with an error status: the message of marq's JSON, or the text that the handler gave."""
    try:
        text = json.loads(reply.body)["message"]
    except (ValueError, TypeError, KeyError, RecursionError):
        text = reply.body[: 4 * MOST_TEXT].decode("utf-8", "replace")
    text = str(text)[: MOST_TEXT - len(FAILED) - 1]
    return Failure(code_of(reply.status), f"{text}\n{FAILED}", reply.status)


def _of(error: ServiceError, second_line: str) -> Failure:
    text = f"{error.message}\n{second_line}"
    return Failure(code_of(error.status), text, error.status, error.headers.get("Retry-After", ""))
