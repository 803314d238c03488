"""A gRPC client with the command line of TorchServe's `ts_scripts/torchserve_grpc_client.py`.

    python client.py infer MODEL FILE
    python client.py infer_stream MODEL FILE
    python client.py infer_stream2 MODEL SEQUENCE FILE,FILE,...
    python client.py register MODEL [FILE.mar,...]
    python client.py unregister MODEL

It calls the methods by their names, with the messages that marq was installed with. Classes for a client of
your own come from gateway/grpc/protos: see the README.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc

from gateway.grpc.messages.inference_pb2 import PredictionResponse, PredictionsRequest
from gateway.grpc.messages.management_pb2 import (
    ManagementResponse,
    RegisterModelRequest,
    UnregisterModelRequest,
)

INFERENCE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService"
MANAGEMENT = "/org.pytorch.serve.grpc.management.ManagementAPIsService"
UNLIMITED = [("grpc.max_receive_message_length", -1)]  # 4 MiB by default


class Client:
    """Both APIs of one server. `token` is needed where token authorization is on."""

    def __init__(self, inference: str, management: str, token: str = "") -> None:
        self._inference = grpc.insecure_channel(inference, options=UNLIMITED)
        self._management = grpc.insecure_channel(management, options=UNLIMITED)
        self._metadata = [("authorization", f"Bearer {token}")] if token else []

    def infer(self, model: str, data: bytes) -> bytes:
        """The answer to one request, whose row has the key `data`."""
        call = self._inference.unary_unary(
            f"{INFERENCE}/Predictions",
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        request = PredictionsRequest(model_name=model, input={"data": data})
        return bytes(call(request, metadata=self._metadata).prediction)

    def infer_stream(self, model: str, data: bytes) -> Iterator[bytes]:
        """The parts of an answer as they come."""
        call = self._inference.unary_stream(
            f"{INFERENCE}/StreamPredictions",
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        request = PredictionsRequest(model_name=model, input={"data": data})
        for part in call(request, metadata=self._metadata):
            yield bytes(part.prediction)

    def infer_stream2(
        self, model: str, sequence: str, inputs: Iterable[bytes]
    ) -> Iterator[PredictionResponse]:
        """The answers to the requests of a sequence; errors are in their `status`."""
        call = self._inference.stream_stream(
            f"{INFERENCE}/StreamPredictions2",
            request_serializer=PredictionsRequest.SerializeToString,
            response_deserializer=PredictionResponse.FromString,
        )
        requests = (
            PredictionsRequest(model_name=model, sequence_id=sequence, input={"data": data})
            for data in inputs
        )
        yield from call(requests, metadata=self._metadata)

    def register(self, model: str, url: str) -> str:
        """Registers an archive with one replica, and waits until it is ready."""
        request = RegisterModelRequest(url=url, model_name=model, initial_workers=1, synchronous=True)
        return self._manage("RegisterModel", request)

    def unregister(self, model: str) -> str:
        return self._manage("UnregisterModel", UnregisterModelRequest(model_name=model))

    def _manage(self, method: str, request: Any) -> str:
        call = self._management.unary_unary(
            f"{MANAGEMENT}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=ManagementResponse.FromString,
        )
        return str(call(request, metadata=self._metadata).msg)


def run(client: Client, given: argparse.Namespace) -> Iterator[str]:
    """The lines that an action prints."""
    match given.action:
        case "infer":
            yield client.infer(given.model_name, Path(given.model_input).read_bytes()).decode()
        case "infer_stream":
            for part in client.infer_stream(given.model_name, Path(given.model_input).read_bytes()):
                yield part.decode()
        case "infer_stream2":
            files = [Path(name.strip()) for name in given.input_files.split(",")]
            inputs = (file.read_bytes() for file in files)
            for answer in client.infer_stream2(given.model_name, given.sequence_id, inputs):
                yield str(answer)
            yield "Sequence completed!"
        case "register":
            archive = f"{given.model_name}.mar"
            offered = (given.mar_set or archive).split(",")
            yield client.register(given.model_name, archive if archive in offered else offered[0])
        case "unregister":
            yield client.unregister(given.model_name)


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("model_name")
    common.add_argument("--auth-token", default="", help="The token of the API.")
    common.add_argument("--inference", default="localhost:7070")
    common.add_argument("--management", default="localhost:7071")
    parser = argparse.ArgumentParser(description="A gRPC client for marq and TorchServe.")
    actions = parser.add_subparsers(dest="action", required=True)
    for name, arguments_ in (
        ("infer", ["model_input"]), ("infer_stream", ["model_input"]),
        ("infer_stream2", ["sequence_id", "input_files"]), ("register", []), ("unregister", []),
    ):  # fmt: skip
        action = actions.add_parser(name, parents=[common])
        for argument in arguments_:
            action.add_argument(argument)
        if name == "register":
            action.add_argument("mar_set", nargs="?", help="Archives or URLs, separated by commas.")
    given = parser.parse_args(arguments)
    try:
        for line in run(Client(given.inference, given.management, given.auth_token), given):
            print(line, flush=True)
    except grpc.RpcError as error:
        print(f"{error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
