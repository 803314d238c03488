"""Calls of gRPC services by their names, with the messages that are generated for marq."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.grpc.messages import inference_pb2, management_pb2, open_inference_pb2
from gateway.grpc.messages.inference_pb2 import (
    PredictionResponse,
    PredictionsRequest,
    TorchServeHealthResponse,
)

INFERENCE = "org.pytorch.serve.grpc.inference.InferenceAPIsService"
MANAGEMENT = "org.pytorch.serve.grpc.management.ManagementAPIsService"
OPEN_INFERENCE = "org.pytorch.serve.grpc.openinference.GRPCInferenceService"
LARGE = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
WAIT_S = 60


class Stub:
    """The methods of one service: stub.Predictions(request, timeout=60)."""

    def __init__(self, channel: Any, service: str, methods: dict[str, tuple[str, type, type]]) -> None:
        for name, (shape, request, response) in methods.items():
            call = getattr(channel, shape)(
                f"/{service}/{name}",
                request_serializer=request.SerializeToString, response_deserializer=response.FromString,
            )  # fmt: skip
            setattr(self, name, call)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(name)


def inference(channel: Any) -> Stub:
    """Of a blocking or an asynchronous channel."""
    both = PredictionsRequest, PredictionResponse
    return Stub(
        channel, INFERENCE,
        {
            "Ping": ("unary_unary", Empty, TorchServeHealthResponse),
            "Predictions": ("unary_unary", *both),
            "StreamPredictions": ("unary_stream", *both),
            "StreamPredictions2": ("stream_stream", *both),
        },
    )  # fmt: skip


def open_inference(channel: Any, name: str = OPEN_INFERENCE) -> Stub:
    names = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
    kinds = {
        each: [getattr(open_inference_pb2, f"{each}{end}") for end in ("Request", "Response")]
        for each in names
    }
    return Stub(channel, name, {each: ("unary_unary", *kinds[each]) for each in names})


def management(channel: Any) -> Stub:
    names = ("DescribeModel", "ListModels", "RegisterModel", "ScaleWorker", "SetDefault", "UnregisterModel")
    methods = {
        name: ("unary_unary", getattr(management_pb2, f"{name}Request"), management_pb2.ManagementResponse)
        for name in names
    }
    return Stub(channel, MANAGEMENT, methods)


def health(channel: Any) -> Stub:
    both = HealthCheckRequest, HealthCheckResponse
    return Stub(
        channel, "grpc.health.v1.Health", {"Check": ("unary_unary", *both), "Watch": ("unary_stream", *both)}
    )


@contextlib.contextmanager
def refusal() -> Iterator[Any]:
    """Catches the error that a call must end with: `with refusal() as error: ...; error.code`."""
    caught = Refusal()
    try:
        yield caught
    except grpc.RpcError as error:
        caught.error = error
    else:
        raise AssertionError("the call succeeded")


class Refusal:
    """The status of a call that failed."""

    error: Any = None

    @property
    def code(self) -> grpc.StatusCode:
        return self.error.code()

    @property
    def text(self) -> str:
        return str(self.error.details())

    @property
    def trailers(self) -> dict[str, Any]:
        return dict(self.error.trailing_metadata() or ())


def row(model: str, version: str = "", **entries: bytes) -> Message:
    """A request with these keys."""
    return inference_pb2.PredictionsRequest(model_name=model, model_version=version, input=entries)
