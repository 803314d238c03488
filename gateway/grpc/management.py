"""`ManagementAPIsService`: each call is a request to the management API's application, in this process.

So parameters, tokens and texts are those of the REST API.
"""

import json
from collections.abc import Mapping
from urllib.parse import urlencode

from google.protobuf.message import Message

from gateway.grpc import failures
from gateway.grpc.calls import Call, Method, Run
from gateway.grpc.failures import Code, Failure
from gateway.grpc.messages import management_pb2 as messages
from gateway.grpc.messages.management_pb2 import ManagementResponse
from gateway.in_process import Application, Request
from gateway.metrics.counting import MANAGEMENT
from marq.errors import AccessDenied, Unauthorized

OfModel = (
    messages.DescribeModelRequest
    | messages.ScaleWorkerRequest
    | messages.SetDefaultRequest
    | messages.UnregisterModelRequest
)
NAME = "org.pytorch.serve.grpc.management.ManagementAPIsService"
DISABLED = "Model API disabled"
CODES = {
    400: Code.INVALID_ARGUMENT,
    403: Code.FAILED_PRECONDITION,  # the default version cannot be removed
    404: Code.NOT_FOUND,
    405: Code.PERMISSION_DENIED,
    408: Code.DEADLINE_EXCEEDED,
    409: Code.ALREADY_EXISTS,
    503: Code.UNAVAILABLE,
}


class ManagementService:
    """Numbers that are negative or not set are not given; nor are empty texts."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def methods(self) -> dict[str, Method]:
        """The methods by their names."""
        runs: dict[str, tuple[Run, type[Message]]] = {
            "DescribeModel": (self._describe, messages.DescribeModelRequest),
            "ListModels": (self._list, messages.ListModelsRequest),
            "RegisterModel": (self._register, messages.RegisterModelRequest),
            "ScaleWorker": (self._scale, messages.ScaleWorkerRequest),
            "SetDefault": (self._set_default, messages.SetDefaultRequest),
            "UnregisterModel": (self._unregister, messages.UnregisterModelRequest),
        }
        return {
            name: Method(run, request, ManagementResponse, MANAGEMENT)
            for name, (run, request) in runs.items()
        }

    async def _describe(self, request: messages.DescribeModelRequest, call: Call) -> ManagementResponse:
        given = {"customized": "true"} if request.customized else {}
        return await self._ask(call, "GET", _path(request), given)

    async def _list(self, request: messages.ListModelsRequest, call: Call) -> ManagementResponse:
        given = {"limit": request.limit} if request.limit else {}
        return await self._ask(call, "GET", ["models"], {**given, "next_page_token": request.next_page_token})

    async def _register(self, request: messages.RegisterModelRequest, call: Call) -> ManagementResponse:
        given = {
            **_positive(request, "batch_size", "max_batch_delay", "response_timeout", "startup_timeout"),
            **_not_negative(request, "initial_workers"),
            **_texts(request, "handler", "model_name", "runtime", "url"),
            "synchronous": _flag(request.synchronous),
            "s3_sse_kms": _flag(request.s3_sse_kms),
        }
        return await self._ask(call, "POST", ["models"], given)

    async def _scale(self, request: messages.ScaleWorkerRequest, call: Call) -> ManagementResponse:
        given = {
            **_not_negative(request, "min_worker", "max_worker"),
            "synchronous": _flag(request.synchronous),
        }
        return await self._ask(call, "PUT", _path(request), given)

    async def _set_default(self, request: messages.SetDefaultRequest, call: Call) -> ManagementResponse:
        if request.model_name and not request.model_version:
            raise _missing("model_version")
        return await self._ask(call, "PUT", [*_path(request), "set-default"], {})

    async def _unregister(self, request: messages.UnregisterModelRequest, call: Call) -> ManagementResponse:
        return await self._ask(call, "DELETE", _path(request), {})

    async def _ask(
        self, call: Call, method: str, segments: list[str], query: Mapping[str, object]
    ) -> ManagementResponse:
        """The answer's text: one sentence, or JSON. Raises Failure."""
        path = "/" + "/".join(segments)
        answer = await self._application.ask(
            Request(method, path, urlencode(query).encode(), call.headers, subject=call.subject)
        )
        if answer.status >= 300:
            raise _failure(answer.status, answer.body)
        text = answer.body.decode().rstrip("\n")
        return ManagementResponse(msg=_sentence(text) or text)


def _path(request: OfModel) -> list[str]:
    """The segments of a model's path. Raises Failure for a name that cannot stand there."""
    if not request.model_name:
        raise _missing("model_name")
    segments = ["models", request.model_name]
    if request.model_version:
        segments.append(request.model_version)
    if any("/" in segment for segment in segments):
        text = f"Model not found: {request.model_name}\n{failures.class_of('ModelNotFoundException')}"
        raise Failure(Code.NOT_FOUND, text, 404)
    return segments


def _missing(parameter: str) -> Failure:
    kind = failures.class_of("BadRequestException")
    return Failure(Code.INVALID_ARGUMENT, f"Parameter {parameter} is required.\n{kind}", 400)


def _positive(request: Message, *names: str) -> dict[str, int]:
    return {name: value for name in names if (value := getattr(request, name)) > 0}


def _not_negative(request: Message, *names: str) -> dict[str, int]:
    """0 counts where the client has set it."""
    return {
        name: getattr(request, name)
        for name in names
        if request.HasField(name) and getattr(request, name) >= 0
    }


def _texts(request: Message, *names: str) -> dict[str, str]:
    return {name: value for name in names if (value := getattr(request, name))}


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _sentence(text: str) -> str:
    """The `status` of an answer that has nothing else; else empty."""
    value = json.loads(text)
    return str(value["status"]) if isinstance(value, dict) and value.keys() == {"status"} else ""


def _failure(status: int, body: bytes) -> Failure:
    error = json.loads(body)
    kind, message = str(error["type"]), str(error["message"])
    if kind in ("InvalidKeyException", Unauthorized.type):
        return Failure(Code.UNAUTHENTICATED, message, status)
    if kind == AccessDenied.type:
        return Failure(Code.PERMISSION_DENIED, message, status)
    if status == 405:
        return Failure(Code.PERMISSION_DENIED, DISABLED, status)
    code = CODES.get(status, Code.INTERNAL)
    return Failure(code, f"{message}\n{failures.class_of(kind)}", status)
