"""Handlers called without a server, through the frames of TorchServe's workers."""

import asyncio
import io
import socket
import struct

import pytest
import torch

from ts.async_service import AsyncService
from ts.context import RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.protocol import otf_message_handler as frames
from ts.service import Service
from ts.utils.util import PredictionException


def text(value):
    return struct.pack("!i", len(value)) + value


END = struct.pack("!i", -1)


def request(request_id=b"id-0", headers=((b"X-Who", b"me"),), parts=((b"body", b"text/plain", b"hello"),)):
    packed = b"".join(text(name) + text(value) for name, value in headers) + END
    packed += b"".join(text(name) + text(kind) + text(value) for name, kind, value in parts) + END
    return text(request_id) + packed


@pytest.fixture
def receive():
    """What the worker's side reads of bytes that the server's side has sent."""
    server, worker = socket.socketpair()
    with server, worker:

        def read(data):
            server.sendall(data)
            return frames.retrieve_msg(worker)

        yield read


class Reader:
    """Takes a frame apart as a server does."""

    def __init__(self, frame):
        self._file = io.BytesIO(frame)

    def number(self):
        return struct.unpack("!i", self._file.read(4))[0]

    def text(self):
        length = self.number()
        return None if length == -1 else self._file.read(length)

    def answer(self):
        """(code, message, [(id, content type, status, phrase, headers, body), ...])"""
        code, message, items = self.number(), self.text(), []
        while (request_id := self.text()) is not None:
            head = (request_id, self.text(), self.number(), self.text())
            headers = {self.text(): self.text() for _ in range(self.number())}
            items.append((*head, headers, self.text()))
        assert self._file.read() == b""
        return code, message, items


@pytest.fixture
def make_service():
    def make(handle):
        return Service("m", "/d", {"model": {}}, handle, None, 2, metrics_cache=MetricsCacheYamlImpl())

    return make


def test_a_batch_is_read_from_a_socket(receive):
    parts = (
        (b"body", b"application/json", b'{"a": 1}'), (b"t", b"text/plain", "ü".encode()),
        (b"raw", b"", b"\xff"), (b"bad", b"application/json", b"{"),
    )  # fmt: skip
    command, batch = receive(b"I" + request(parts=parts) + request(b"id-1", ()) + END)
    assert (command, len(batch)) == (b"I", 2)
    processors, rows, ids = Service.retrieve_data_for_inference(batch)
    assert rows == [
        {"body": {"a": 1}, "t": "ü", "raw": bytearray(b"\xff"), "bad": bytearray(b"{")}, {"body": "hello"}
    ]  # fmt: skip
    assert ids == {0: "id-0", 1: "id-1"}
    assert processors[0].get_request_property("X-Who") == "me"
    assert processors[1].get_request_property("body") == {"content-type": "text/plain"}


def test_values_stay_bytes_where_decoding_is_switched_off(receive, monkeypatch):
    monkeypatch.setenv("TS_DECODE_INPUT_REQUEST", "false")
    _, batch = receive(b"I" + request() + END)
    assert batch[0]["parameters"][0]["value"] == bytearray(b"hello")


@pytest.mark.parametrize(("gpu", "given"), [(-1, {}), (3, {"gpu": 3})])
def test_a_load_message_is_read_from_a_socket(receive, gpu, given):
    number = struct.Struct("!i").pack
    data = b"L" + text(b"m") + text(b"/d") + number(4) + text(b"h.py") + number(gpu) + text(b"json") + b"\1"
    assert receive(data) == (
        b"L",
        {
            "modelName": b"m", "modelPath": b"/d", "batchSize": 4, "handler": b"h.py", "envelope": b"json",
            "limitMaxImagePixels": True, **given,
        },
    )  # fmt: skip


def test_other_bytes_are_refused_and_the_end_ends_the_process(receive):
    with pytest.raises(ValueError, match="Invalid command"):
        receive(b"Z")
    server, worker = socket.socketpair()
    server.close()
    with worker, pytest.raises(SystemExit) as ended:
        frames.retrieve_msg(worker)
    assert ended.value.code == 0


def test_a_load_response_has_no_items():
    assert Reader(frames.create_load_model_response(200, "loaded")).answer() == (200, b"loaded", [])


def test_a_service_answers_with_status_type_and_headers(receive, make_service):
    def handle(rows, context):
        context.set_response_content_type(0, "text/plain")
        context.set_response_status(201, "Made", 1)
        context.set_response_header(1, "X-A", "b")
        return [rows[0]["body"] + "!", {"n": 1}]

    _, batch = receive(b"I" + request() + request(b"id-1") + END)
    assert Reader(make_service(handle).predict(batch)).answer() == (
        200,
        b"Prediction success",
        [
            (b"id-0", b"text/plain", 200, b"", {b"content-type": b"text/plain"}, b"hello!"),
            (b"id-1", b"", 201, b"Made", {b"X-A": b"b"}, b'{\n  "n": 1\n}'),
        ],
    )


def test_a_tensor_is_saved(receive, make_service):
    _, batch = receive(b"I" + request() + END)
    frame = make_service(lambda rows, context: [torch.ones(2)]).predict(batch)
    body = Reader(frame).answer()[2][0][-1]
    assert torch.load(io.BytesIO(body), weights_only=True).tolist() == [1, 1]


def raises(error):
    def handle(rows, context):
        raise error

    return handle


@pytest.mark.parametrize(
    ("handle", "code", "message"),
    [
        (raises(MemoryError()), 507, b"Out of resources"),
        (raises(RuntimeError("CUDA error")), 507, b"Out of resources"),
        (raises(PredictionException("no", 418)), 418, b"no"),
        (raises(KeyError("x")), 503, b"Prediction failed"),
        (lambda rows, context: ("a",), 503, b"Invalid model predict output"),
        (lambda rows, context: [], 503, b"number of batch response mismatched"),
        (lambda rows, context: [{1}], 503, b"Unsupported model output data type."),
    ],
)
def test_each_failure_has_its_code(receive, make_service, handle, code, message):
    _, batch = receive(b"I" + request() + END)
    failed = (code, message, [(b"id-0", b"", code, b"", {}, b"error")])
    assert Reader(make_service(handle).predict(batch)).answer() == failed


def test_the_parts_of_a_stream_say_that_more_follows(make_service):
    context = make_service(None).context
    context.request_processor = [RequestProcessor({})]
    frame = frames.create_predict_response(["a"], {0: "id"}, "m", 200, context, ts_stream_next=True)
    assert Reader(frame).answer()[2][0][4] == {b"ts_stream_next": b"true"}
    frame = frames.create_predict_response(["b"], {0: "id"}, "m", 200, context)
    assert Reader(frame).answer()[2][0][4] == {b"ts_stream_next": b"false"}


def test_batches_of_a_coroutine_handler_run_at_the_same_time(receive, make_service):
    async def handle(rows, context):
        meeting.append(context)
        while len(meeting) < 2:
            await asyncio.sleep(0)
        return [context.get_request_id(0)]

    async def both(service, batches):
        return await asyncio.gather(*map(service.predict, batches))

    meeting = []
    batches = [receive(b"I" + request(name) + END)[1] for name in (b"first", b"second")]
    service = AsyncService(make_service(handle))
    service.service.set_cl_socket(socket.socket())  # which cannot be copied
    answers = asyncio.run(asyncio.wait_for(both(service, batches), 60))
    assert [Reader(frame).answer()[2][0][-1] for frame in answers] == [b"first", b"second"]
    assert meeting[0] is not meeting[1]
    service.service.context.cl_socket.close()


def test_a_failing_coroutine_fails_its_own_batch(receive, make_service):
    async def handle(rows, context):
        raise PredictionException("gone", 410)

    _, batch = receive(b"I" + request() + END)
    frame = asyncio.run(AsyncService(make_service(handle)).predict(batch))
    assert Reader(frame).answer()[:2] == (410, b"gone")
