"""Every error that a client of marq can see, with its HTTP status and TorchServe's name for its type."""

import json
from http import HTTPStatus


class MarqError(Exception):
    """Base of all errors that marq raises on purpose."""


class ServiceError(MarqError):
    """Raised when a request cannot be served; carries its HTTP answer."""

    status: int = HTTPStatus.INTERNAL_SERVER_ERROR
    type: str = "InternalServerException"
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = int(self.status if status is None else status)

    def body(self) -> bytes:
        return error_body(self.status, self.type, self.message)


class BadRequest(ServiceError):
    """Raised when a parameter is missing or wrong."""

    status, type = HTTPStatus.BAD_REQUEST, "BadRequestException"


class ClientGone(BadRequest):
    """Raised when a connection ends before the request that it carries is complete."""

    def __init__(self, message: str = "The connection ended before the request was complete.") -> None:
        super().__init__(message)


class InvalidModel(ServiceError):
    """Raised when a file is not a readable model archive."""

    status, type = HTTPStatus.BAD_REQUEST, "InvalidModelException"


class ModelFailed(ServiceError):
    """Raised when a model's packages cannot be installed."""

    status, type = HTTPStatus.BAD_REQUEST, "ModelException"


class InvalidWorkflow(ServiceError):
    """Raised when a file is not a readable workflow archive, or its specification is wrong."""

    status, type = HTTPStatus.BAD_REQUEST, "InvalidWorkflowException"


class InvalidGraph(ServiceError):
    """Raised when the nodes of a workflow are not a directed acyclic graph with one start node."""

    status, type = HTTPStatus.BAD_REQUEST, "InvalidDAGException"


class WorkflowFailed(ServiceError):
    """Raised when a node of a workflow cannot be registered or unregistered."""

    status, type = HTTPStatus.INTERNAL_SERVER_ERROR, "WorkflowException"


class WorkflowNotFound(ServiceError):
    """Raised when no workflow of that name is registered, or its archive is not there."""

    status, type = HTTPStatus.NOT_FOUND, "WorkflowNotFoundException"


class DownloadFailed(ServiceError):
    """Raised when an archive cannot be fetched."""

    status, type = HTTPStatus.BAD_REQUEST, "DownloadArchiveException"


class InvalidToken(ServiceError):
    """Raised on TorchServe's routes when the token is missing, wrong or expired."""

    status, type = HTTPStatus.BAD_REQUEST, "InvalidKeyException"


class Unauthorized(ServiceError):
    """Raised on marq's own routes when the token is missing, wrong or expired."""

    status, type = HTTPStatus.UNAUTHORIZED, "Unauthorized"
    headers = {"WWW-Authenticate": "Bearer"}  # noqa: RUF012 - never changed


class AccessDenied(ServiceError):
    """Raised when an authorizer refuses a caller that it knows."""

    status, type = HTTPStatus.FORBIDDEN, "AccessDeniedException"


class InvalidModelVersion(ServiceError):
    """Raised when the default version is to be removed while others exist."""

    status, type = HTTPStatus.FORBIDDEN, "InvalidModelVersionException"


class ResourceNotFound(ServiceError):
    """Raised for a path that does not exist."""

    status, type = HTTPStatus.NOT_FOUND, "ResourceNotFoundException"

    def __init__(
        self, message: str = "Requested resource is not found, please refer to API document."
    ) -> None:
        super().__init__(message)


class ModelNotFound(ServiceError):
    """Raised when no model of that name is registered."""

    status, type = HTTPStatus.NOT_FOUND, "ModelNotFoundException"


class ModelVersionNotFound(ServiceError):
    """Raised when a model has no such version."""

    status, type = HTTPStatus.NOT_FOUND, "ModelVersionNotFoundException"


class JobNotFound(ServiceError):
    """Raised when a job id is unknown, or its record has expired."""

    status, type = HTTPStatus.NOT_FOUND, "JobNotFoundException"


class WebhookNotFound(ServiceError):
    """Raised when a message of a webhook is unknown: it was delivered, or is not kept any more."""

    status, type = HTTPStatus.NOT_FOUND, "WebhookNotFoundException"


MODEL_API_OFF = (
    "Registering and unregistering is off: start the server with --enable-model-api, with "
    "enable_model_api=true in config.properties, or MARQ_ENABLE_MODEL_API=true (with compose: "
    "ENABLE_MODEL_API=true in .env)."
)


class MethodNotAllowed(ServiceError):
    """Raised for a method that a path does not have."""

    status, type = HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowedException"

    def __init__(
        self, message: str = "Requested method is not allowed, please refer to API document."
    ) -> None:
        super().__init__(message)


class RequestTimeout(ServiceError):
    """Raised when something did not end within its time-out."""

    status, type = HTTPStatus.REQUEST_TIMEOUT, "RequestTimeoutException"


class DeadlineExceeded(ServiceError):
    """Raised when a request passed its deadline before it ran."""

    status, type = HTTPStatus.GATEWAY_TIMEOUT, "RequestTimeoutException"


class Conflict(ServiceError):
    """Raised when the object to create exists, or when another request has changed it meanwhile."""

    status, type = HTTPStatus.CONFLICT, "ConflictStatusException"


class RequestTooLarge(ServiceError):
    """Raised when a body is larger than `max_request_size`."""

    status, type = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestTooLargeException"


class HeadersTooLarge(ServiceError):
    """Raised when a request has more headers, or larger ones, than the limits allow."""

    status, type = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "RequestHeadersTooLargeException"


class UrlTooLong(ServiceError):
    """Raised when a URL is longer than `max_url_length`."""

    status, type = HTTPStatus.REQUEST_URI_TOO_LONG, "RequestUrlTooLongException"


class ServiceUnavailable(ServiceError):
    """Raised when a request cannot be queued now."""

    status, type = HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailableException"


class QueueUnavailable(ServiceUnavailable):
    """Raised while Redis is away or refuses writes: a retry may succeed."""

    headers = {"Retry-After": "1"}  # noqa: RUF012 - never changed


class QueueFull(ServiceUnavailable):
    """Raised when the queue is full; carries the time until a retry."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.headers = {"Retry-After": str(retry_after_s)}


class TooManyJobs(QueueFull):
    """Raised on marq's own routes when too many jobs are queued."""

    status, type = HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequestsException"


class IdempotencyConflict(ServiceError):
    """Raised when an idempotency key comes again with another request."""

    status, type = HTTPStatus.UNPROCESSABLE_ENTITY, "IdempotencyConflictException"


class ConnectionLost(QueueUnavailable, ConnectionError):
    """Raised when the connection to Redis ended before the answer; the command may have run or not."""


class StreamBroken(ServiceUnavailable):
    """Raised when an answer that had begun to stream cannot be completed."""


class WorkerFailed(ServiceError):
    """Raised when the replica that ran a request ended, or the handler failed."""


class BadReply(ServiceError):
    """Raised when the reply to a request cannot be sent as an HTTP answer."""

    status = HTTPStatus.BAD_GATEWAY


class MalformedEntry(MarqError):
    """Raised when a stream entry is not a request; carries its raw fields for the dead letters."""

    def __init__(self, reason: str, fields: list[bytes]) -> None:
        super().__init__(reason)
        self.reason, self.fields = reason, fields


class RedisUnavailable(MarqError):
    """Raised when Redis does not answer; names the URL without its password."""


def error_body(code: int, kind: str, message: str) -> bytes:
    """The JSON of an error answer: TorchServe's keys, order, indent and final newline."""
    return pretty({"code": int(code), "type": kind, "message": message})


def pretty(value: object) -> bytes:
    """JSON as TorchServe's frontend prints it: two spaces, UTF-8, one newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()
