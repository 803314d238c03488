"""Contract 5: gRPC, as TorchServe's clients call it. The rows where marq differs say so in their ids."""

import json

import grpc
import grpc_stubs
import httpx
import pytest
import redis
from contract import pack
from google.protobuf.empty_pb2 import Empty
from grpc_stubs import WAIT_S, refusal, row
from ports import free_port
from support import wait_for

from gateway.grpc.messages import management_pb2 as messages
from gateway.grpc.messages import open_inference_pb2 as protocol
from gateway.grpc.messages.inference_pb2 import PredictionsRequest

Code = grpc.StatusCode
FAILED = "org.pytorch.serve.http.InternalServerException"
MODEL = "org.pytorch.serve.archive.model."
HTTP = "org.pytorch.serve.http."
PORTS = {name: free_port() for name in ("inference", "management")}
SETTINGS = {
    "enable_grpc": True, "grpc_inference_port": PORTS["inference"], "access_log": True,
    "grpc_management_port": PORTS["management"], "max_request_size": 1_000_000,
}  # fmt: skip


@pytest.fixture(scope="module")
def rpc(server):
    with grpc.insecure_channel(f"127.0.0.1:{PORTS['inference']}") as channel:
        yield grpc_stubs.inference(channel)


@pytest.fixture(scope="module")
def managing(server):
    with grpc.insecure_channel(f"127.0.0.1:{PORTS['management']}") as channel:
        yield grpc_stubs.management(channel)


@pytest.fixture
def second(managing):
    """The model `second`, without replicas, until the test ends."""
    managing.RegisterModel(
        messages.RegisterModelRequest(url="tell.mar", model_name="second", initial_workers=0)
    )
    yield "second"
    try:
        managing.UnregisterModel(messages.UnregisterModelRequest(model_name="second"), timeout=WAIT_S)
    except grpc.RpcError as error:
        assert error.code() is Code.NOT_FOUND


def told(answer):
    return json.loads(answer.prediction)


# 5.1


def test_ping_is_the_json_of_the_rest_api_without_its_newline(rpc):
    assert rpc.Ping(Empty(), timeout=WAIT_S).health == '{\n  "status": "Healthy"\n}'


def test_a_row_has_a_key_for_each_input(rpc):
    request = row("tell", data="grüße".encode(), other=b"{}", **{'a "name" \\;= ü': b"3"})
    found = told(rpc.Predictions(request, timeout=WAIT_S))
    assert found["row"] == {
        "data": "bytearray grüße", "other": "bytearray {}", 'a "name" \\;= ü': "bytearray 3",
    }  # fmt: skip
    assert found["kinds"] == {key: {"content-type": ""} for key in found["row"]}


def test_a_single_key_body_is_a_row_too(rpc):
    found = told(rpc.Predictions(row("tell", body=b'{"a": 1}'), timeout=WAIT_S))
    assert found["row"] == {"body": 'bytearray {"a": 1}'}


def test_without_an_input_the_row_is_empty(rpc):
    assert told(rpc.Predictions(row("tell"), timeout=WAIT_S))["row"] == {}


def test_metadata_is_not_forwarded(rpc):
    found = told(rpc.Predictions(row("tell", a=b""), metadata=[("x-own", "1")], timeout=WAIT_S))
    assert set(found["headers"].values()) == {None}


def test_a_version_is_run(rpc):
    assert told(rpc.Predictions(row("tell", "1.0", a=b""), timeout=WAIT_S))["version"] == "1.0"


@pytest.mark.parametrize(
    ("request_", "code", "text"),
    [
        pytest.param(row(""), Code.INTERNAL, "Parameter model_name is required.\nBadRequestException.()",
                     id="empty model_name"),
        pytest.param(row("no"), Code.INTERNAL, f"Model not found: no\n{MODEL}ModelNotFoundException",
                     id="unknown model"),
        pytest.param(row("tell", "9"), Code.INTERNAL,
                     f"Model version: 9 does not exist for model: tell\n{MODEL}ModelVersionNotFoundException",
                     id="unknown version"),
        pytest.param(row("tell", **{"a\n": b""}), Code.INVALID_ARGUMENT,
                     "The name of an input must have at most 1000 bytes and no control characters, "
                     "not 'a\\n'.\nBadRequestException.()", id="a name that cannot be a key"),
    ],
)  # fmt: skip
def test_requests_that_are_not_queued(rpc, request_, code, text):
    with refusal() as error:
        rpc.Predictions(request_, timeout=WAIT_S)
    assert (error.code, error.text) == (code, text)


# The handler of `tell` acts on texts only, which gRPC never gives: so this one acts on bytes.
ACTS = """
import os, signal
from ts.utils.util import PredictionException


def handle(data, context):
    if data is None:
        return None
    order = bytes(data[0]["body"]).decode()
    if order.startswith("code "):
        raise PredictionException("own words", int(order[5:]))
    if order.startswith("status "):
        context.set_response_status(int(order[7:]), "phrase", 0)
        return ["the handler's text"]
    if order == "raise":
        raise ValueError("no")
    if order == "memory":
        raise MemoryError
    if order == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return [order.upper()]
"""


@pytest.fixture(scope="module")
def acts(server, store, managing):
    pack(store, "acts", ACTS, {"maxAttempts": 1})
    managing.RegisterModel(
        messages.RegisterModelRequest(url="acts.mar", initial_workers=1, synchronous=True), timeout=WAIT_S
    )
    server.wait_until_ready("acts")
    return "acts"


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ("code 400", Code.INVALID_ARGUMENT), ("code 401", Code.UNAUTHENTICATED),
        ("code 403", Code.PERMISSION_DENIED), ("code 404", Code.NOT_FOUND), ("code 409", Code.ABORTED),
        ("code 413", Code.INTERNAL), ("code 416", Code.OUT_OF_RANGE),
        ("code 418", Code.FAILED_PRECONDITION), ("code 429", Code.RESOURCE_EXHAUSTED),
        ("code 499", Code.CANCELLED), ("code 501", Code.UNIMPLEMENTED), ("code 503", Code.UNAVAILABLE),
        ("code 504", Code.DEADLINE_EXCEEDED), ("code 599", Code.INTERNAL),
        ("raise", Code.UNAVAILABLE), ("memory", Code.INTERNAL), ("die", Code.INTERNAL),
    ],
)  # fmt: skip
def test_a_handlers_error_is_mapped_as_in_torchserve(server, rpc, acts, order, code):
    server.wait_until_ready(acts)  # after the row that ends the replica
    with refusal() as error:
        rpc.Predictions(row(acts, body=order.encode()), timeout=WAIT_S)
    assert error.code is code, error.text
    assert error.text.endswith(f"\n{FAILED}")
    if order.startswith("code"):
        assert error.text == f"own words\n{FAILED}"


def test_a_status_that_the_handler_sets_is_mapped_too(rpc, acts):
    with refusal() as error:
        rpc.Predictions(row(acts, body=b"status 404"), timeout=WAIT_S)
    assert (error.code, error.text) == (Code.NOT_FOUND, f"the handler's text\n{FAILED}")


def test_without_workers_a_call_is_unavailable(rpc, second):
    # In TorchServe the code is INTERNAL
    with refusal() as error:
        rpc.Predictions(row(second, a=b""), timeout=WAIT_S)
    assert error.code is Code.UNAVAILABLE
    assert error.text.startswith('Model "second" has no worker to serve inference request.')
    assert error.text.endswith("\nInternalServerException.()")


def test_a_message_above_max_request_size_is_refused(rpc):
    # TorchServe resets the stream: CANCELLED
    with refusal() as error:
        rpc.Predictions(row("tell", a=bytes(1_100_000)), timeout=WAIT_S)
    assert error.code is Code.RESOURCE_EXHAUSTED
    assert len(told(rpc.Predictions(row("tell", a=b"x" * 900_000), timeout=WAIT_S))["row"]["a"]) > 900_000


def test_a_plain_handler_streams_one_message(rpc, acts):
    # TorchServe ends the worker
    answers = list(rpc.StreamPredictions(row(acts, body=b"go"), timeout=WAIT_S))
    assert [answer.prediction for answer in answers] == [b"GO"]


def test_stream_predictions_reports_errors_as_predictions_does(rpc, acts):
    with refusal() as error:
        list(rpc.StreamPredictions(row(acts, body=b"code 404"), timeout=WAIT_S))
    assert (error.code, error.text) == (Code.NOT_FOUND, f"own words\n{FAILED}")


def sequence(name, **entries):
    return PredictionsRequest(model_name="tell", sequence_id=name, input=entries)


def test_a_stream_answers_each_request_in_order_with_its_sequence(rpc):
    # TorchServe loses answers after the client's half-close, and fills no sequence_id
    requests = [sequence(f"s{n % 3}", n=str(n).encode()) for n in range(30)]
    answers = list(rpc.StreamPredictions2(iter(requests), timeout=WAIT_S))
    assert [told(answer)["row"]["n"] for answer in answers] == [f"bytearray {n}" for n in range(30)]
    assert [answer.sequence_id for answer in answers] == [f"s{n % 3}" for n in range(30)]


def test_in_a_stream_an_error_is_a_message_and_the_others_go_on(rpc):
    requests = [
        sequence("", a=b""), sequence("a", a=b""), PredictionsRequest(model_name="no", sequence_id="b"),
        sequence("", ts_request_sequence_start=b"true"),
    ]  # fmt: skip
    missing, good, unknown, started = rpc.StreamPredictions2(iter(requests), timeout=WAIT_S)
    assert (missing.status.code, missing.status.message) == (
        Code.INTERNAL.value[0], "Parameter sequenceId is required.\nBadRequestException.()",
    )  # fmt: skip
    assert good.sequence_id == "a" and not good.HasField("status")
    assert unknown.sequence_id == "b"
    assert unknown.status.message.startswith("Model not found: no\n")
    assert started.sequence_id.startswith("ts-seq-")


SUMS = """
class Sums:
    def initialize(self, context):
        self.sums = {}

    def handle(self, data, context):
        return [self.add(context.get_sequence_id(index), row) for index, row in enumerate(data)]

    def add(self, name, row):
        self.sums[name] = self.sums.get(name, 0) + int(bytes(row["n"]))
        return f"{name} {self.sums[name]}"
"""
SEQUENCES = {
    "sequenceBatching": True, "sequenceMaxIdleMSec": 600_000, "maxSequenceJobQueueSize": 10,
    "maxNumSequence": 100, "minWorkers": 2, "maxWorkers": 2, "batchSize": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def add(managing, store):
    """A request for a model with running sums."""
    pack(store, "sums", SUMS, SEQUENCES)
    wanted = messages.RegisterModelRequest(url="sums.mar", initial_workers=2, synchronous=True)
    managing.RegisterModel(wanted, timeout=WAIT_S)
    yield lambda name, number: PredictionsRequest(
        model_name="sums", sequence_id=name, input={"n": b"%d" % number}
    )
    managing.UnregisterModel(messages.UnregisterModelRequest(model_name="sums"), timeout=WAIT_S)


def test_the_requests_of_a_sequence_reach_one_replica_from_each_method(rpc, add):
    names = [f"s{n}" for n in range(8)]
    requests = [add(name, number) for number in (1, 2, 3) for name in names]
    answers = [
        answer.prediction.decode() for answer in rpc.StreamPredictions2(iter(requests), timeout=WAIT_S)
    ]
    assert answers == [f"{name} {total}" for total in (1, 3, 6) for name in names]
    for name in names:
        assert rpc.Predictions(add(name, 4), timeout=WAIT_S).prediction.decode() == f"{name} 10"
        [streamed] = rpc.StreamPredictions(add(name, 5), timeout=WAIT_S)
        assert streamed.prediction.decode() == f"{name} 15"


def test_an_entry_of_the_input_ends_a_sequence(rpc, add, server):
    last = add("last", 1)
    last.input["ts_request_sequence_end"] = b"true"
    rpc.Predictions(add("last", 1), timeout=WAIT_S)
    with redis.Redis.from_url(server.redis_url) as client:
        assert client.hexists("marq:{sums}:sequence-records:1.0", "last")
        rpc.Predictions(last, timeout=WAIT_S)
        assert not client.hexists("marq:{sums}:sequence-records:1.0", "last")


def test_without_a_sequence_each_request_is_one_of_its_own(rpc, add):
    names = [rpc.Predictions(add("", 7), timeout=WAIT_S).prediction.decode().split() for _ in range(3)]
    assert {total for _, total in names} == {"7"}
    assert len({name for name, _ in names}) == 3


def test_calls_are_logged_with_their_codes(server, rpc):
    log = server.state_dir / "logs" / "access_log.log"
    rpc.Predictions(row("tell", a=b""), timeout=WAIT_S)
    with refusal():
        rpc.StreamPredictions(row("no", a=b""), timeout=WAIT_S).next()
    line = f'"gRPC {grpc_stubs.INFERENCE}/{{}} HTTP/2.0" {{}} '
    for wanted in (line.format("Predictions", 0), line.format("StreamPredictions", 13)):
        wait_for(lambda wanted=wanted: wanted in log.read_text(), what=wanted)


# 5.2


def test_list_without_a_limit_lists_the_models(managing):
    # TorchServe: an empty list
    found = json.loads(managing.ListModels(messages.ListModelsRequest(), timeout=WAIT_S).msg)
    assert {"modelName": "tell", "modelUrl": "tell.mar"} in found["models"]


def test_list_in_pages(managing, second):
    first = json.loads(managing.ListModels(messages.ListModelsRequest(limit=1), timeout=WAIT_S).msg)
    assert len(first["models"]) == 1 and first["nextPageToken"] == "1"
    request = messages.ListModelsRequest(limit=1, next_page_token=1)
    assert json.loads(managing.ListModels(request, timeout=WAIT_S).msg)["models"] != first["models"]


def test_describe_is_the_json_of_the_rest_api(server, managing, second):
    text = managing.DescribeModel(messages.DescribeModelRequest(model_name=second), timeout=WAIT_S).msg
    assert text == httpx.get(f"{server.management}/models/{second}").text.rstrip("\n")


def test_describe_asks_the_handler(managing):
    request = messages.DescribeModelRequest(model_name="tell", customized=True)
    [found] = json.loads(managing.DescribeModel(request, timeout=WAIT_S).msg)
    assert found["customizedMetadata"] == {"described": []}


def test_a_model_is_registered_scaled_and_unregistered(managing, store):
    # Given a registration with settings
    registered = managing.RegisterModel(
        messages.RegisterModelRequest(
            url="tell.mar", model_name="grown", batch_size=3, max_batch_delay=7, initial_workers=1,
            response_timeout=11, startup_timeout=60, synchronous=True,
        ),
        timeout=WAIT_S,
    )  # fmt: skip
    assert registered.msg == 'Model "grown" Version: 1.0 registered with 1 initial workers'
    describe = messages.DescribeModelRequest(model_name="grown")
    [found] = json.loads(managing.DescribeModel(describe, timeout=WAIT_S).msg)
    assert (found["batchSize"], found["maxBatchDelay"], found["minWorkers"]) == (3, 7, 1)
    # When it is scaled to 0, which TorchServe's gRPC cannot
    scaled = managing.ScaleWorker(
        messages.ScaleWorkerRequest(model_name="grown", min_worker=0, synchronous=True), timeout=WAIT_S
    )
    # Then it has no workers
    assert scaled.msg == "Workers scaled to 0 for model: grown"
    [found] = json.loads(managing.DescribeModel(describe, timeout=WAIT_S).msg)
    assert (found["minWorkers"], found["workers"]) == (0, [])
    # And can go
    removed = managing.UnregisterModel(messages.UnregisterModelRequest(model_name="grown"), timeout=WAIT_S)
    assert removed.msg == 'Model "grown" unregistered'


def test_a_model_config_that_cannot_be_followed_is_refused(managing, store):
    pack(store, "torn", "def handle(data, context): ...", {"minWorkers": 2, "maxWorkers": 1})
    with refusal() as error:
        managing.RegisterModel(messages.RegisterModelRequest(url="torn.mar"), timeout=WAIT_S)
    assert error.code is Code.INVALID_ARGUMENT
    assert error.text == (
        "minWorkers is 2, and maxWorkers is 1: maxWorkers must be at least minWorkers\n"
        f"{MODEL}InvalidModelException"
    )


def test_without_synchronous_the_answer_comes_at_once(managing, second):
    request = messages.ScaleWorkerRequest(model_name=second, min_worker=1)
    assert managing.ScaleWorker(request, timeout=WAIT_S).msg == "Processing worker updates..."


def test_a_default_version_is_set_and_cannot_be_removed_while_there_are_others(managing, second):
    managing.RegisterModel(
        messages.RegisterModelRequest(url="tell2.mar", model_name=second, initial_workers=0), timeout=WAIT_S
    )
    set_default = messages.SetDefaultRequest(model_name=second, model_version="2.0")
    assert managing.SetDefault(set_default, timeout=WAIT_S).msg == (
        'Default version successfully updated for model "second" to "2.0"'
    )
    with refusal() as error:
        managing.UnregisterModel(
            messages.UnregisterModelRequest(model_name=second, model_version="2.0"), timeout=WAIT_S
        )
    assert error.code is Code.FAILED_PRECONDITION
    assert error.text.endswith(f"\n{MODEL}InvalidModelVersionException")
    managing.UnregisterModel(
        messages.UnregisterModelRequest(model_name=second, model_version="1.0"), timeout=WAIT_S
    )


@pytest.mark.parametrize(
    ("method", "request_", "code", "text"),
    [
        pytest.param("DescribeModel", messages.DescribeModelRequest(model_name="no"), Code.NOT_FOUND,
                     f"Model not found: no\n{MODEL}ModelNotFoundException", id="model not found"),
        pytest.param("DescribeModel", messages.DescribeModelRequest(model_name="tell", model_version="9"),
                     Code.NOT_FOUND, f"Model version: 9 does not exist for model: tell\n"
                     f"{MODEL}ModelVersionNotFoundException", id="version not found"),
        pytest.param("DescribeModel", messages.DescribeModelRequest(model_name="tell/1.0"), Code.NOT_FOUND,
                     f"Model not found: tell/1.0\n{MODEL}ModelNotFoundException", id="a name with a slash"),
        pytest.param("RegisterModel", messages.RegisterModelRequest(), Code.INVALID_ARGUMENT,
                     f"Parameter url is required.\n{HTTP}BadRequestException", id="bad request"),
        pytest.param("RegisterModel", messages.RegisterModelRequest(url="tell.mar"), Code.ALREADY_EXISTS,
                     "Model version 1.0 is already registered for model tell\n"
                     f"{HTTP}ConflictStatusException", id="duplicate: TorchServe UNKNOWN"),
        pytest.param("ScaleWorker",
                     messages.ScaleWorkerRequest(model_name="tell", min_worker=3, max_worker=1),
                     Code.INVALID_ARGUMENT, "max_worker cannot be less than min_worker.\n"
                     f"{HTTP}BadRequestException", id="bad numbers"),
        pytest.param("SetDefault", messages.SetDefaultRequest(model_name="tell"), Code.INVALID_ARGUMENT,
                     f"Parameter model_version is required.\n{HTTP}BadRequestException", id="no version"),
        pytest.param("UnregisterModel", messages.UnregisterModelRequest(), Code.INVALID_ARGUMENT,
                     f"Parameter model_name is required.\n{HTTP}BadRequestException",
                     id="no name: TorchServe names url"),
    ],
)  # fmt: skip
def test_management_errors(managing, method, request_, code, text):
    with refusal() as error:
        getattr(managing, method)(request_, timeout=WAIT_S)
    assert (error.code, error.text) == (code, text)


# 5.3

MIRROR = """
import json


def handle(data, context):
    if data is None:
        return None
    answers = []
    for row in data:
        body = row["body"]
        outputs = [{**each, "name": "y", "data": each["data"]} for each in body["inputs"]]
        outputs.append({"name": "row", "datatype": "BYTES", "shape": [1], "data": [json.dumps(body)]})
        answers.append({"id": body.get("id", ""), "model_name": "mirror", "outputs": outputs})
    return answers if outputs[0]["datatype"] != "BOOL" else ["no answer of the protocol"]
"""


@pytest.fixture(scope="module")
def mirror(server, store, managing):
    pack(store, "mirror", MIRROR)
    managing.RegisterModel(
        messages.RegisterModelRequest(url="mirror.mar", initial_workers=1, synchronous=True), timeout=WAIT_S
    )
    server.wait_until_ready("mirror")
    return "mirror"


@pytest.fixture(scope="module", params=[grpc_stubs.OPEN_INFERENCE, "inference.GRPCInferenceService"])
def oip(request, server):
    with grpc.insecure_channel(f"127.0.0.1:{PORTS['inference']}") as channel:
        yield grpc_stubs.open_inference(channel, request.param)


def tensor(datatype, shape, **contents):
    return protocol.ModelInferRequest.InferInputTensor(
        name="x", datatype=datatype, shape=shape, contents=protocol.InferTensorContents(**contents)
    )


def test_the_server_is_live_and_ready_and_says_who_it_is(server, oip):
    server.wait_until_ready("tell")
    assert oip.ServerLive(protocol.ServerLiveRequest(), timeout=WAIT_S).live
    assert isinstance(oip.ServerReady(protocol.ServerReadyRequest(), timeout=WAIT_S).ready, bool)
    found = oip.ServerMetadata(protocol.ServerMetadataRequest(), timeout=WAIT_S)
    assert (found.name, list(found.extensions)) == ("Torchserve", ["kserve", "kubeflow"])


def test_a_model_is_ready_when_a_replica_is(server, oip, second):
    server.wait_until_ready("tell")
    for name, ready in (("tell", True), (second, False)):
        assert oip.ModelReady(protocol.ModelReadyRequest(name=name), timeout=WAIT_S).ready is ready


def test_metadata_of_a_model(oip):
    found = oip.ModelMetadata(protocol.ModelMetadataRequest(name="tell", version="1.0"), timeout=WAIT_S)
    assert (found.name, list(found.versions), list(found.inputs)) == ("tell", ["1.0"], [])


def test_infer_gives_the_handler_the_row_of_the_rest_api(server, oip, mirror):
    given = {"id": "7", "model_name": mirror, "inputs": [
        {"name": "x", "shape": [2], "datatype": "FP32", "data": [0.5, 2.0]},
    ]}  # fmt: skip
    request = protocol.ModelInferRequest(
        model_name=mirror, id="7", inputs=[tensor("FP32", [2], fp32_contents=[0.5, 2])]
    )
    found = oip.ModelInfer(request, timeout=WAIT_S)
    over_rest = httpx.post(f"{server.inference}/v2/models/{mirror}/infer", json=given, timeout=WAIT_S).json()
    (row_,) = over_rest["outputs"][-1]["data"]
    assert json.loads(found.outputs[1].contents.bytes_contents[0]) == json.loads(row_)
    assert (found.id, found.model_name, found.model_version) == ("7", mirror, "1.0")
    assert list(found.outputs[0].contents.fp32_contents) == [0.5, 2.0]


def test_infer_takes_and_gives_raw_contents(oip, mirror):
    # TorchServe ignores them
    request = protocol.ModelInferRequest(
        model_name=mirror, inputs=[tensor("FP16", [2])], raw_input_contents=[b"\0\x3c\0\x40"]
    )
    found = oip.ModelInfer(request, timeout=WAIT_S)
    assert found.raw_output_contents[0] == b"\0\x3c\0\x40"


@pytest.mark.parametrize(
    ("method", "request_", "code", "text"),
    [
        pytest.param("ModelReady", protocol.ModelReadyRequest(), Code.INTERNAL,
                     "Parameter name is required.\nBadRequestException.()", id="ready of no name"),
        pytest.param("ModelMetadata", protocol.ModelMetadataRequest(), Code.INTERNAL,
                     "Parameter model_name is required.\nBadRequestException.()", id="metadata of no name"),
        pytest.param("ModelInfer", protocol.ModelInferRequest(), Code.INTERNAL,
                     "Parameter model_name is required.\nBadRequestException.()", id="infer of no name"),
        pytest.param("ModelReady", protocol.ModelReadyRequest(name="no"), Code.NOT_FOUND,
                     f"Model not found: no\n{MODEL}ModelNotFoundException", id="ready of an unknown model"),
        pytest.param("ModelMetadata", protocol.ModelMetadataRequest(name="tell", version="9"), Code.NOT_FOUND,
                     f"Model version: 9 does not exist for model: tell\n{MODEL}ModelVersionNotFoundException",
                     id="metadata of an unknown version"),
        pytest.param("ModelInfer", protocol.ModelInferRequest(model_name="no"), Code.NOT_FOUND,
                     f"Model not found: no\n{MODEL}ModelNotFoundException",
                     id="infer of an unknown model: TorchServe INTERNAL"),
        pytest.param("ModelInfer",
                     protocol.ModelInferRequest(model_name="tell", inputs=[tensor("FP32", [3])]),
                     Code.INVALID_ARGUMENT, "Input 'x', FP32: shape [3] has 3 elements, but the contents "
                     "have 0.\nBadRequestException.()", id="shape and contents differ"),
    ],
)  # fmt: skip
def test_open_inference_errors(oip, method, request_, code, text):
    with refusal() as error:
        getattr(oip, method)(request_, timeout=WAIT_S)
    assert (error.code, error.text) == (code, text)


def test_an_answer_that_is_none_of_the_protocol_is_an_error(oip, mirror):
    request = protocol.ModelInferRequest(
        model_name=mirror, inputs=[tensor("BOOL", [1], bool_contents=[True])]
    )
    with refusal() as error:
        oip.ModelInfer(request, timeout=WAIT_S)
    assert error.code is Code.INTERNAL
    assert error.text.startswith("The answer is not one of the open inference protocol")
