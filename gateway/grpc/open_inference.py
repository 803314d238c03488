"""`GRPCInferenceService`: the open inference protocol, for the clients of KServe, Triton and TorchServe."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

import grpc
import redis

from gateway.grpc import failures, inference_json
from gateway.grpc.answers import Answers
from gateway.grpc.calls import Call, Method
from gateway.grpc.failures import Code, Failure
from gateway.grpc.inference_json import BadAnswer
from gateway.grpc.messages import open_inference_pb2 as messages
from gateway.grpc.rows import Body
from gateway.inference import kserve
from gateway.inference.predictor import Predictor
from gateway.inference.tensors import BadTensor
from gateway.metrics.counting import OTHER, PREDICTION
from gateway.routing.routes import Routes
from marq.errors import BadRequest, QueueUnavailable, ServiceError
from ts import __version__ as torchserve_version

NAMES = ("org.pytorch.serve.grpc.openinference.GRPCInferenceService", "inference.GRPCInferenceService")
SMALL = 65_536  # bytes of a message that is turned to JSON, and back, without a thread
JSON = b"application/json"

T = TypeVar("T")


class OpenInferenceService:
    """A handler gets the same row as over REST."""

    def __init__(self, predictor: Predictor, routes: Routes) -> None:
        self._answers = Answers(predictor, not_found=grpc.StatusCode.NOT_FOUND)
        self._routes = routes

    def methods(self) -> dict[str, Method]:
        """The methods by their names."""
        others = {
            "ServerLive": self._live,
            "ServerReady": self._ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._metadata,
            "ModelMetadata": self._model_metadata,
        }
        made = {
            name: Method(
                run, getattr(messages, f"{name}Request"), getattr(messages, f"{name}Response"), OTHER
            )
            for name, run in others.items()
        }
        made["ModelInfer"] = Method(
            self._infer, messages.ModelInferRequest, messages.ModelInferResponse, PREDICTION
        )
        return made

    async def _live(self, _request: messages.ServerLiveRequest, call: Call) -> messages.ServerLiveResponse:
        await self._answers.authorize(call)
        return messages.ServerLiveResponse(live=True)

    async def _ready(self, _request: messages.ServerReadyRequest, call: Call) -> messages.ServerReadyResponse:
        """Whether each default version with `minWorkers` above 0 has a ready replica."""
        await self._answers.authorize(call)
        return messages.ServerReadyResponse(
            ready=not await _looked_up(lambda: kserve.not_ready(self._routes))
        )

    async def _model_ready(
        self, request: messages.ModelReadyRequest, call: Call
    ) -> messages.ModelReadyResponse:
        await self._answers.authorize(call)
        name = _given(request.name, "name")

        def is_ready() -> bool:
            return self._routes.is_ready(self._routes.models().get(name, request.version or None))

        return messages.ModelReadyResponse(ready=await _looked_up(is_ready))

    async def _metadata(
        self, _request: messages.ServerMetadataRequest, call: Call
    ) -> messages.ServerMetadataResponse:
        await self._answers.authorize(call)
        return messages.ServerMetadataResponse(
            name="Torchserve", version=torchserve_version, extensions=kserve.EXTENSIONS
        )

    async def _model_metadata(
        self, request: messages.ModelMetadataRequest, call: Call
    ) -> messages.ModelMetadataResponse:
        await self._answers.authorize(call)
        given = _given(request.name, "model_name"), request.version or None
        name, versions = await _looked_up(lambda: kserve.model_versions(self._routes, *given))
        return messages.ModelMetadataResponse(name=name, versions=versions, platform=kserve.PLATFORM)

    async def _infer(self, request: messages.ModelInferRequest, call: Call) -> messages.ModelInferResponse:
        route = await self._answers.find(
            call, _given(request.model_name, "model_name"), request.model_version
        )
        is_small = request.ByteSize() <= SMALL
        try:
            content = await _computed(is_small, lambda: inference_json.encode(request))
        except BadTensor as error:
            raise failures.refused(BadRequest(str(error))) from None
        answer = await self._answers.whole(call, route, Body(JSON, content))
        try:
            return await _computed(
                len(answer) <= SMALL, lambda: inference_json.decode(answer, request, route.spec.version)
            )
        except BadAnswer as error:
            raise Failure(Code.INTERNAL, f"{error}\n{failures.FAILED}", 502) from None


async def _computed(is_small: bool, function: Callable[[], T]) -> T:
    """The result; slow conversions have a thread, so that other calls go on."""
    return function() if is_small else await asyncio.to_thread(function)


async def _looked_up(function: Callable[[], T]) -> T:
    """The result of a function that reads the registry. Raises Failure."""
    try:
        return await asyncio.to_thread(function)
    except ServiceError as error:
        raise failures.unknown(error, Code.NOT_FOUND) from None
    except redis.RedisError as error:
        failure = QueueUnavailable(f"Redis does not answer as it should: {error}")
        raise failures.refused(failure) from None


def _given(name: str, parameter: str) -> str:
    if not name:
        raise failures.without_name(parameter)
    return name
