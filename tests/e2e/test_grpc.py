"""gRPC servers under load, with tokens, TLS, clients that go away, replicas and gateways that end."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certificates
import grpc
import grpc_stubs
import httpx
import psutil
import pytest
from gate import HOLD, Gate
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse
from grpc_stubs import LARGE, WAIT_S, refusal, row
from plugin_packages import add_package
from ports import free_port
from support import RunningServer, wait_for

from gateway.grpc.messages.management_pb2 import ListModelsRequest
from marq.plugins.protocols import AUTHORIZERS

Code = grpc.StatusCode
HANDLER = (
    HOLD
    + """
from ts.handler_utils.utils import send_intermediate_predict_response


def handle(data, context):
    if data is None:
        return None
    answers = []
    for index, row in enumerate(data):
        print(f"ran {bytes(row.get('name', b'')).decode()}.", flush=True)
        if "status" in row:
            context.set_response_status(int(row["status"]), "", index)
        if "header" in row:
            name, value = bytes(row["header"]).decode().split("=")
            context.set_response_header(index, name, value)
        if "gate" in row:
            hold(bytes(row["gate"]).decode())
        if "parts" in row:
            for number in range(int(row["parts"])):
                send_intermediate_predict_response(
                    [f"{number} ".encode() * 10_000], context.request_ids, "", 200, context
                )
        answers.append(bytes(row.get("data", b"")))
    return answers
"""
)
CONFIG = {"minWorkers": 2, "maxWorkers": 2, "batchSize": 8, "maxBatchDelay": 2, "jobQueueSize": 5000}


class Ports:
    """The gRPC ports of one server, and channels to them."""

    def __init__(self) -> None:
        self.inference, self.management = free_port(), free_port()

    @property
    def settings(self) -> dict[str, Any]:
        ports = {"grpc_inference_port": self.inference, "grpc_management_port": self.management}
        return {"enable_grpc": True, **ports}

    def channel(self, port: int = 0) -> grpc.Channel:
        return grpc.insecure_channel(f"127.0.0.1:{port or self.inference}", options=LARGE)


@pytest.fixture(scope="module")
def store(make_archive, tmp_path_factory) -> Path:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", HANDLER, CONFIG)
    make_archive(store, "single", HANDLER, {**CONFIG, "minWorkers": 1, "maxWorkers": 1, "batchSize": 1})
    return store


@pytest.fixture(scope="module")
def ports() -> Ports:
    return Ports()


@pytest.fixture(scope="module")
def server(start_server, store, ports) -> RunningServer:
    server: RunningServer = start_server(store, gateway_workers=2, max_request_size=80_000_000,
                                         max_response_size=80_000_000, **ports.settings)  # fmt: skip
    server.wait_until_ready("echo", 2)
    server.wait_until_ready("single")
    return server


@pytest.fixture
def rpc(server, ports) -> Iterator[Any]:
    with ports.channel() as channel:
        yield grpc_stubs.inference(channel)


def waiting(server: RunningServer, model: str) -> int:
    (described,) = httpx.get(f"{server.management}/models/{model}").json()
    return int(described["jobQueueStatus"]["pendingRequests"])


def hold(rpc: Any, gate: Gate) -> Any:
    """Keeps the replica of `single` busy until the gate opens."""
    held = rpc.Predictions.future(row("single", gate=str(gate).encode()), timeout=2 * WAIT_S)
    gate.wait_until_reached()
    return held


def test_a_thousand_calls_at_a_time_on_one_channel_are_answered(rpc):
    calls = [
        rpc.Predictions.future(row("echo", data=str(number).encode()), timeout=2 * WAIT_S)
        for number in range(1000)
    ]
    assert [call.result().prediction for call in calls] == [str(number).encode() for number in range(1000)]


@pytest.mark.parametrize("megabytes", [6, pytest.param(64, marks=pytest.mark.slow)])
def test_large_messages_come_back_whole(rpc, megabytes):
    data = os.urandom(1000) * (megabytes * 1000)
    assert rpc.Predictions(row("echo", data=data), timeout=2 * WAIT_S).prediction == data


def test_a_slow_reader_gets_every_part(rpc):
    answers = rpc.StreamPredictions(row("single", parts=b"300", data=b"end"), timeout=WAIT_S)
    parts = [answer.prediction for answer in answers]
    assert parts == [f"{number} ".encode() * 10_000 for number in range(300)] + [b"end"]


def test_a_cancelled_call_takes_its_request_out_of_the_queue(server, rpc, gate):
    # Given a request behind one that is held
    held = hold(rpc, gate)
    queued = rpc.Predictions.future(row("single", name=b"cancelled"), timeout=WAIT_S)
    wait_for(lambda: waiting(server, "single") == 1, what="the queued request")
    # When its call is cancelled
    queued.cancel()
    # Then it is not run
    wait_for(lambda: waiting(server, "single") == 0, what="the end of the queued request")
    gate.open()
    held.result()
    rpc.Predictions(row("single", name=b"after it"), timeout=WAIT_S)
    wait_for(lambda: "ran after it." in server.model_log, what="the log")
    assert "ran cancelled." not in server.model_log


def test_a_deadline_is_the_requests(server, rpc, gate):
    held = hold(rpc, gate)
    with refusal() as error:
        rpc.Predictions(row("single", name=b"late"), timeout=0.5)
    assert error.code is Code.DEADLINE_EXCEEDED
    gate.open()
    held.result()
    rpc.Predictions(row("single", name=b"in time"), timeout=WAIT_S)
    wait_for(lambda: "ran in time." in server.model_log, what="the log")
    assert "ran late." not in server.model_log


def test_every_gateway_serves_both_ports(server, ports):
    gateways = [
        each.pid
        for each in psutil.Process(server.process.pid).children()
        if each.cmdline()[-1:] == ["gateway"]
    ]
    assert len(gateways) == 2

    def listening(pid: int) -> set[int]:
        return {found.laddr.port for found in psutil.Process(pid).net_connections() if not found.raddr}

    wanted = {ports.inference, ports.management}
    for pid in gateways:  # the server answers as soon as one of them does
        wait_for(lambda pid=pid: wanted <= listening(pid), what="the ports", log=server.log)


def test_health_and_reflection(server, ports):
    with ports.channel() as channel:
        health = grpc_stubs.health(channel)
        for service in ("", grpc_stubs.INFERENCE):
            answer = health.Check(HealthCheckRequest(service=service), timeout=WAIT_S)
            assert answer.status == HealthCheckResponse.SERVING
        with refusal() as error:
            health.Check(HealthCheckRequest(service="no"), timeout=WAIT_S)
        assert error.code is Code.NOT_FOUND
        watching = health.Watch(HealthCheckRequest(), timeout=WAIT_S)
        assert next(watching).status == HealthCheckResponse.SERVING
        watching.cancel()
        reflect = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=ServerReflectionRequest.SerializeToString,
            response_deserializer=ServerReflectionResponse.FromString,
        )
        (listed,) = reflect(iter([ServerReflectionRequest(list_services="")]), timeout=WAIT_S)
        names = {service.name for service in listed.list_services_response.service}
        for name in names:
            asked = ServerReflectionRequest(file_containing_symbol=name)
            (described,) = reflect(iter([asked]), timeout=WAIT_S)
            assert described.file_descriptor_response.file_descriptor_proto, name
    services = (grpc_stubs.INFERENCE, grpc_stubs.OPEN_INFERENCE, "inference.GRPCInferenceService")
    assert {*services, "grpc.health.v1.Health"} <= names


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100_000, b"\xff" * 10_000])
def test_garbage_ends_its_own_connection_only(ports, rpc, data):
    connection = socket.create_connection(("127.0.0.1", ports.inference), timeout=WAIT_S)
    with connection, contextlib.suppress(ConnectionError):
        connection.sendall(data)
        while connection.recv(65_536):
            pass
    assert rpc.Ping(Empty(), timeout=WAIT_S).health


@pytest.mark.parametrize(
    "order",
    [
        {"status": b"600"}, {"status": b"100"}, {"header": "\u0142=x".encode()}, {"header": b"x=a\r\nb: c"},
        {"parts": b"2", "status": b"999"}, {"parts": b"2", "header": b"x\r\ny=z"},
    ],
)  # fmt: skip
def test_an_answer_that_http_does_not_allow_fails_its_own_call(rpc, order):
    calls = [rpc.Predictions.future(row("single", data=b"good"), timeout=WAIT_S) for _ in range(20)]
    with refusal() as error:
        rpc.Predictions(row("single", **order), timeout=WAIT_S)
    assert error.code is Code.UNAVAILABLE
    with refusal() as error:
        list(rpc.StreamPredictions(row("single", **order), timeout=WAIT_S))
    assert error.code is Code.UNAVAILABLE
    assert {call.result().prediction for call in calls} == {b"good"}
    assert rpc.Predictions(row("single", data=b"after"), timeout=WAIT_S).prediction == b"after"


@pytest.mark.parametrize("status", [b"204", b"304", b"302"])
def test_an_answer_that_is_no_error_is_a_message(rpc, status):
    answer = rpc.Predictions(
        row("echo", status=status, header=b"content-length=1", data=b"x"), timeout=WAIT_S
    )
    assert answer.prediction == (b"x" if status == b"302" else b"")


def test_a_message_that_is_not_one_is_refused(server, ports):
    with ports.channel() as channel, refusal() as error:
        channel.unary_unary(f"/{grpc_stubs.INFERENCE}/Predictions")(b"\xff\xff\xff", timeout=WAIT_S)
    assert error.code is Code.INVALID_ARGUMENT


def test_no_call_is_lost_when_replicas_are_killed(server, rpc):
    # When replicas are killed while 2,000 calls are answered
    calls = [
        rpc.Predictions.future(row("echo", data=str(number).encode()), timeout=2 * WAIT_S)
        for number in range(2000)
    ]
    for done in (100, 500, 900):
        wait_for(lambda done=done: sum(call.done() for call in calls) >= done, WAIT_S, "answers")
        for worker in server.workers("echo")[:1]:
            with contextlib.suppress(ProcessLookupError):  # killed before, and still listed
                os.kill(worker["pid"], signal.SIGKILL)
    # Then each has its own answer
    assert [call.result().prediction for call in calls] == [str(number).encode() for number in range(2000)]


# Servers of their own


@contextmanager
def serving(start_server, store, arguments=None, **config) -> Iterator[tuple[RunningServer, Ports]]:
    ports = Ports()
    server = start_server(
        store, ["single.mar"], arguments, **{"gateway_workers": 1, **ports.settings, **config}
    )
    try:
        yield server, ports
    finally:
        server.stop()


def test_each_api_wants_its_token(start_server, store):
    with serving(start_server, store, ["--enable-model-api"]) as (server, ports):
        keys = json.loads((server.log.parent / "key_file.json").read_text())
        with ports.channel() as channel, ports.channel(ports.management) as managing:
            rpc, api = grpc_stubs.inference(channel), grpc_stubs.management(managing)

            def calls(plane):
                metadata = [("authorization", f"Bearer {keys[plane]['key']}")] if plane else []
                given: dict[str, Any] = {"metadata": metadata, "timeout": WAIT_S}
                yield "inference", lambda: rpc.Ping(Empty(), **given)
                yield "inference", lambda: rpc.Predictions(row("single", data=b"x"), **given)
                yield "inference", lambda: list(rpc.StreamPredictions(row("single", data=b"x"), **given))
                yield "inference", lambda: list(rpc.StreamPredictions2(iter([]), **given))
                yield "management", lambda: api.ListModels(ListModelsRequest(), **given)

            for plane in ("", "inference", "management"):
                for wanted, call in calls(plane):
                    if wanted == plane:
                        call()
                    else:
                        with refusal() as error:
                            call()
                        assert error.code is Code.UNAUTHENTICATED
                        assert error.text.startswith("Token Authorization failed. ")
            # Probes have no token
            assert grpc_stubs.health(channel).Check(HealthCheckRequest(), timeout=WAIT_S)


SUBJECTS = """
from marq.plugins.protocols import Allow, Deny


class Subjects:
    protocol = 1
    headers = ()

    def decide(self, access):
        if access.route == "/ping":
            return Allow()
        if access.plane == "management" or access.subject != "localhost":
            return Deny(f"{access.subject} may not do that.")
        return Allow(60)
"""


@pytest.mark.slow
def test_tls_and_certificates_of_clients(start_server, store, tmp_path):
    # Given a server with TLS whose clients need a certificate, and an authorizer that knows its name
    (tmp_path / "other").mkdir()
    pair, other = certificates.make(tmp_path), certificates.make(tmp_path / "other")
    tls = {
        "enable_grpc_ssl": True, "private_key_file": str(pair.key), "certificate_file": str(pair.certificate),
        "grpc_client_ca_file": str(pair.certificate),
        "plugins_path": str(add_package(tmp_path, "subjects", SUBJECTS, {AUTHORIZERS: {"s": "Subjects"}})),
    }  # fmt: skip
    with serving(start_server, store, **tls) as (_, ports):

        def ping(*client: bytes) -> str:
            credentials = grpc.ssl_channel_credentials(pair.certificate.read_bytes(), *client)
            with grpc.secure_channel(f"localhost:{ports.inference}", credentials) as channel:
                return str(grpc_stubs.inference(channel).Ping(Empty(), timeout=WAIT_S).health)

        # Then a client with it is answered, and others are not
        assert "Healthy" in ping(pair.key.read_bytes(), pair.certificate.read_bytes())
        own = pair.certificate.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
        with (
            grpc.secure_channel(
                f"localhost:{ports.management}", grpc.ssl_channel_credentials(*own)
            ) as channel,
            refusal() as error,
        ):
            grpc_stubs.management(channel).ListModels(ListModelsRequest(), timeout=WAIT_S)
        assert (error.code, error.text) == (Code.PERMISSION_DENIED, "localhost may not do that.")
        for client in ((), (other.key.read_bytes(), other.certificate.read_bytes())):
            with refusal() as error:
                ping(*client)
            assert error.code is Code.UNAVAILABLE
        with ports.channel() as channel, refusal() as error:
            grpc_stubs.inference(channel).Ping(Empty(), timeout=WAIT_S)
        assert error.code is Code.UNAVAILABLE


def test_a_stop_finishes_the_calls_in_flight(start_server, store, gate):
    with serving(start_server, store) as (server, ports), ports.channel() as channel:
        server.wait_until_ready("single")
        rpc = grpc_stubs.inference(channel)
        held = hold(rpc, gate)
        server.ask_to_stop()

        def refuses() -> bool:
            with ports.channel() as late:
                try:
                    grpc_stubs.inference(late).Ping(Empty(), timeout=WAIT_S)
                except grpc.RpcError:
                    return True
            return False

        wait_for(refuses, what="the end of the listener")
        gate.open()
        assert held.result().prediction == b""
        assert server.stop() == 0


@pytest.mark.slow
def test_a_unix_socket_is_served(start_server, store, tmp_path):
    path = tmp_path / "grpc.sock"
    given = {"grpc_inference_address": f"unix:{path}", "gateway_workers": 2}
    with serving(start_server, store, **given), grpc.insecure_channel(f"unix:{path}") as channel:
        # The first gateway listens on it; the second may be the first to answer HTTP
        assert grpc_stubs.inference(channel).Ping(Empty(), timeout=WAIT_S, wait_for_ready=True).health


@pytest.mark.slow
def test_switched_off_nothing_of_grpc_is_loaded(start_server, store):
    server = start_server(store, ["single.mar"], gateway_workers=1)
    (gateway,) = [
        each for each in psutil.Process(server.process.pid).children() if each.cmdline()[-1:] == ["gateway"]
    ]
    assert not [each.path for each in gateway.memory_maps() if "grpc" in Path(each.path).name]
    server.stop()


@pytest.mark.slow
def test_two_servers_cannot_have_the_same_ports(start_server, store):
    with serving(start_server, store) as (_, ports), pytest.raises(AssertionError) as caught:
        start_server(store, ["single.mar"], **ports.settings)
    text = f"grpc_inference_port 127.0.0.1:{ports.inference} cannot be used: Address already in use."
    assert text in str(caught.value)


def test_many_channels_are_answered(server, ports):
    def ask(number: int) -> bytes:
        with ports.channel() as channel:
            answer = grpc_stubs.inference(channel).Predictions(
                row("echo", data=b"%d" % number), timeout=WAIT_S
            )
            return bytes(answer.prediction)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(40))) == [b"%d" % number for number in range(40)]
