"""`InferenceAPIsService`: predictions and the health check, as TorchServe's clients call them."""

import time
from collections.abc import AsyncIterator

import grpc
import orjson
from google.protobuf.empty_pb2 import Empty
from google.rpc.status_pb2 import Status

from gateway.grpc import failures
from gateway.grpc.answers import Answers, Sequence
from gateway.grpc.calls import Call, Method
from gateway.grpc.failures import Failure
from gateway.grpc.messages.inference_pb2 import (
    PredictionResponse,
    PredictionsRequest,
    TorchServeHealthResponse,
)
from gateway.grpc.rows import Body, body_of
from gateway.inference.predictor import CLIENT_GONE, Predictor
from gateway.metrics.counting import OTHER, PREDICTION, RequestMeter
from gateway.routing.health import Health
from marq.errors import BadRequest, pretty
from marq.queue.ids import new_id
from marq.settings.fields import Settings

NAME = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
SEQUENCE = "ts-seq-{}"  # an id that the server gives


class InferenceService:
    """Rows have the keys of `input`; metadata is not forwarded to the handler."""

    def __init__(self, predictor: Predictor, health: Health, meter: RequestMeter, settings: Settings) -> None:
        self._answers = Answers(predictor, not_found=grpc.StatusCode.INTERNAL)  # as in TorchServe
        self._health, self._meter = health, meter
        self._id_header = settings.ts_header_key_sequence_id
        self._start_key = settings.ts_header_key_sequence_start
        self._end_key = settings.ts_header_key_sequence_end

    def methods(self) -> dict[str, Method]:
        """The methods by their names."""
        both = PredictionsRequest, PredictionResponse
        return {
            "Ping": Method(self._ping, Empty, TorchServeHealthResponse, OTHER),
            "Predictions": Method(self._predict, *both, PREDICTION),
            "StreamPredictions": Method(self._stream, *both, PREDICTION, (False, True)),
            "StreamPredictions2": Method(self._stream_both_ways, *both, OTHER, (True, True)),
        }

    async def _ping(self, _request: Empty, call: Call) -> TorchServeHealthResponse:
        await self._answers.authorize(call)
        status = {"status": "Healthy" if self._health.is_good else "Unhealthy"}
        return TorchServeHealthResponse(health=pretty(status).decode().rstrip("\n"))

    async def _predict(self, request: PredictionsRequest, call: Call) -> PredictionResponse:
        """A streamed answer comes whole."""
        route = await self._answers.find(call, _name(request), request.model_version)
        answer = await self._answers.whole(call, route, _body(request), self._sequence(request))
        return PredictionResponse(prediction=answer)

    async def _stream(self, request: PredictionsRequest, call: Call) -> None:
        """One message for each part; an answer that is not streamed is one message."""
        route = await self._answers.find(call, _name(request), request.model_version)
        sequence = self._sequence(request)
        async with self._answers.parts(call, route, _body(request), sequence=sequence) as parts:
            async for part in parts:
                await call.write(PredictionResponse(prediction=part.body))

    async def _stream_both_ways(self, requests: AsyncIterator[PredictionsRequest | None], call: Call) -> None:
        """One request after the other, so that the rows of a sequence keep their order.

        The error of a request is a message; the others go on. A token that is not valid ends the call.
        """
        await self._answers.authorize(call)
        async for request in requests:
            if request is None:
                raise failures.unreadable()
            began, status = time.monotonic(), CLIENT_GONE
            try:
                await self._step(request, call)
                status = 200
            except Failure as failure:
                status = failure.status
                error = Status(code=failure.number, message=failure.text)
                await call.write(PredictionResponse(sequence_id=request.sequence_id, status=error))
            finally:
                route, call.route = call.route, None  # the requests are counted, not the call
                if route is not None:
                    self._meter.answered(route, status, time.monotonic() - began)

    async def _step(self, request: PredictionsRequest, call: Call) -> None:
        sequence = request.sequence_id or self._new_sequence(request)
        route = await self._answers.find(call, _name(request), request.model_version)
        headers = orjson.dumps({self._id_header: sequence, **self._flags(request)})
        place = Sequence(sequence, ends=self._end_key in self._flags(request))
        async with self._answers.parts(call, route, _body(request), headers, place) as parts:
            async for part in parts:
                await call.write(PredictionResponse(prediction=part.body, sequence_id=sequence))

    def _sequence(self, request: PredictionsRequest) -> Sequence:
        return Sequence(request.sequence_id, ends=self._end_key in self._flags(request))

    def _flags(self, request: PredictionsRequest) -> dict[str, str]:
        """The entries of `input` that say that a request is the first or the last one of its sequence."""
        given = request.input
        keys = (self._start_key, self._end_key)
        return {key: "true" for key in keys if key in given and given[key].lower() == b"true"}

    def _new_sequence(self, request: PredictionsRequest) -> str:
        """An id for the sequence that a request starts. Raises Failure if it starts none."""
        if self._start_key not in self._flags(request):
            raise failures.without_name("sequenceId")
        return SEQUENCE.format(new_id().decode())


def _name(request: PredictionsRequest) -> str:
    if not request.model_name:
        raise failures.without_name("model_name")
    name: str = request.model_name
    return name


def _body(request: PredictionsRequest) -> Body:
    try:
        return body_of(request.input)
    except BadRequest as error:
        raise failures.refused(error) from None
