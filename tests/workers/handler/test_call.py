import asyncio
import json
import time

import pytest
from support import wait_for

from marq.queue.entries import Request
from marq.queue.job_records import Progress
from ts.context import Context
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.utils.util import PredictionException
from workers.handler.call import HandlerCall
from workers.handler.memory import REMEMBERED_S


def requests(*bodies: bytes) -> list[Request]:
    return [Request(b"%d-0" % i, "lane", body, id=b"id%d" % i) for i, body in enumerate(bodies)]


@pytest.fixture
def context():
    context = Context("m", "/dir", None, 4, None, "0.12.0")
    context.metrics = MetricsCacheYamlImpl()
    return context


@pytest.fixture
def call(context):
    """Runs a handler on a batch: call(handle, b"row", b"row") -> replies."""

    def call(handle, *bodies: bytes):
        return HandlerCall(handle, context, True, 1000).run(requests(*bodies or (b"",)))

    return call


def raising(error):
    def handle(data, context):
        raise error

    return handle


def test_each_request_gets_its_element(call):
    replies = call(lambda data, context: [row["body"] + b"!" for row in data], b"a", b"b")
    assert [(reply.id, reply.status, reply.body) for reply in replies] == [
        (b"id0", 200, b"a!"), (b"id1", 200, b"b!"),
    ]  # fmt: skip


def test_the_context_knows_the_batch(call):
    def handle(data, context):
        context.set_response_content_type(1, "text/plain")
        context.set_response_status(404, "gone", 1)
        context.set_response_header(0, "x-size", str(len(data)))
        assert context.metrics.request_ids == context.request_ids
        return [context.get_request_id(i) for i in range(len(data))]

    first, second = call(handle, b"a", b"b")
    assert (first.body, second.body) == (b"id0", b"id1")
    assert json.loads(first.headers) == {"x-size": "2"}
    assert (second.status, json.loads(second.headers)) == (404, {"content-type": "text/plain"})


def test_nothing_of_a_batch_is_left_for_the_next(call):
    def first(data, context):
        context.set_all_response_status(500)
        context.set_response_header(0, "x", "y")
        context.kept = True
        return ["", ""]

    call(first, b"a", b"b")
    [reply] = call(lambda data, context: [str((context.kept, context.request_ids))], b"c")
    assert (reply.status, reply.headers) == (200, b"")
    assert reply.body == b"(True, {0: 'id0'})"


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (PredictionException("teapot", 418), 418, "teapot"),
        (PredictionException("own code", 599), 599, "own code"),
        (PredictionException("default"), 500, "default"),
        (PredictionException("too large", 413), 507, "too large"),
        (PredictionException("text", "404"), 404, "text"),
        (PredictionException("no code", "many"), 500, "no code"),
        (PredictionException("no status", 7), 500, "no status"),
        (PredictionException(ValueError("wrapped")), 500, "wrapped"),
        (MemoryError(), 507, "Out of resources"),
        (RuntimeError("CUDA out of memory"), 507, "Out of resources"),
        (ValueError("CUDA error: device-side assert triggered"), 507, "Out of resources"),
        (RuntimeError("boom"), 503, "Prediction failed"),
        (KeyError("x"), 503, "Prediction failed"),
        (RecursionError(), 503, "Prediction failed"),
        (SystemExit(3), 503, "Prediction failed"),
        (KeyboardInterrupt(), 503, "Prediction failed"),
        (GeneratorExit(), 503, "Prediction failed"),
        (asyncio.CancelledError(), 503, "Prediction failed"),
        (BaseException("mine"), 503, "Prediction failed"),
    ],
)
def test_what_a_handler_raises_decides_the_answer(call, error, status, message):
    replies = call(raising(error), b"a", b"b")
    assert [reply.status for reply in replies] == [status, status]
    assert replies[0].body == replies[1].body
    assert json.loads(replies[0].body) == {
        "code": status, "type": "InternalServerException", "message": message,
    }  # fmt: skip
    assert json.loads(replies[0].headers) == {"content-type": "application/json"}


def test_an_error_that_cannot_even_be_printed_is_answered(call):
    class Unprintable(Exception):
        def __str__(self):
            raise ValueError("no text")

    assert call(raising(Unprintable()))[0].status == 503


@pytest.mark.parametrize(
    ("returned", "message", "logged"),
    [
        (
            ("a",),
            "Invalid model predict output",
            "The handler returned tuple for a batch of 1, not",
        ),
        (
            None,
            "Invalid model predict output",
            "The handler returned NoneType for a batch of 1, not",
        ),
        ([], "number of batch response mismatched", "The handler returned a list of 0 for a batch of 1. Req"),
        (["a", "b"], "number of batch response mismatched", "returned a list of 2 for a batch of 1"),
        ([object()], "Unsupported model output data type.", "its answer cannot be encoded"),
    ],
)
def test_what_a_handler_must_not_return(call, caplog, returned, message, logged):
    [reply] = call(lambda data, context: returned)
    assert reply.status == 503
    assert json.loads(reply.body)["message"].splitlines()[0] == message
    [record] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert logged in record.getMessage()
    assert "id0" in record.getMessage()


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_coroutine_is_no_answer(call, caplog):
    async def handle(data, context):
        await asyncio.sleep(0)

    message = json.loads(call(handle)[0].body)["message"]
    assert message.startswith("Invalid model predict output\nThe handler returned coroutine for a batch of 1")
    assert message.endswith("coroutine function: set `asyncCommunication: true` in model-config.yaml.")
    assert "coroutine function: set `asyncCommunication: true`" in caplog.text


def test_the_cause_and_the_requests_are_logged(call, caplog):
    call(raising(RuntimeError("the cause")), b"a", b"b")
    assert "503 Prediction failed. Requests: id0, id1" in caplog.text
    assert "RuntimeError: the cause" in caplog.text


def test_a_handler_that_changes_its_rows_is_still_measured_by_its_requests(call):
    def handle(data, context):
        data.clear()
        return ["a", "b"]

    assert [reply.body for reply in call(handle, b"1", b"2")] == [b"a", b"b"]


def test_the_next_batch_runs_after_one_that_failed(call):
    call(raising(SystemExit(1)))
    assert call(lambda data, context: ["fine"])[0].status == 200


class Device:
    """A handler for which no more than `room` rows fit at a time."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.batches: list[int] = []

    def handle(self, data, context):
        self.batches.append(len(data))
        if len(data) > self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return [bytes(row["body"]) + context.get_request_id(index).encode() for index, row in enumerate(data)]


def test_a_batch_that_does_not_fit_into_memory_is_run_in_halves(context):
    device, noted = Device(3), []
    call = HandlerCall(device.handle, context, True, 1000)
    call.row_limit.on_change = noted.append
    replies = call.run(requests(*(b"%d " % n for n in range(8))))
    assert [reply.body for reply in replies] == [b"%d id%d" % (n, n) for n in range(8)]
    assert device.batches == [8, 4, 2, 2, 2, 2]
    assert noted == [4, 2]


async def test_a_batch_of_a_coroutine_handler_is_run_in_halves_as_well(context):
    device = Device(3)

    async def handle(data, context):
        return device.handle(data, context)

    replies = await HandlerCall(handle, context, True, 1000).run_async(
        requests(*(b"%d " % n for n in range(8))), 5.0
    )
    assert [reply.body for reply in replies] == [b"%d id%d" % (n, n) for n in range(8)]
    assert device.batches == [8, 4, 2, 2, 2, 2]


def test_the_size_that_fits_is_remembered_for_a_while(context, monkeypatch):
    device = Device(4)
    call = HandlerCall(device.handle, context, True, 1000)
    call.run(requests(*[b""] * 8))
    device.batches.clear()
    assert {reply.status for reply in call.run(requests(*[b""] * 8))} == {200}
    assert device.batches == [4, 4]
    # And when it has passed, and there is room, more are tried
    device.room, now = 8, time.monotonic()
    monkeypatch.setattr("workers.handler.memory.time.monotonic", lambda: now + REMEMBERED_S)
    device.batches.clear()
    call.run(requests(*[b""] * 8))
    assert device.batches == [8]


def test_a_row_that_does_not_fit_alone_fails_alone(context):
    def handle(data, context):
        if any(bytes(row["body"]) == b"large" for row in data):
            raise RuntimeError("CUDA out of memory")
        return ["fine"] * len(data)

    call = HandlerCall(handle, context, True, 1000)
    replies = call.run(requests(b"a", b"large", b"b", b"c"))
    assert [reply.status for reply in replies] == [200, 507, 200, 200]


class Sent:
    """Keeps what is streamed."""

    def __init__(self) -> None:
        self.parts, self.reports = [], []

    def send(self, answers):
        self.parts += answers

    def report(self, reports):
        self.reports += reports

    def find_gone(self, requests, gone):
        pass


def test_what_has_streamed_already_is_not_run_again(context):
    calls = []

    def handle(data, context):
        calls.append(len(data))
        context.cl_socket.stream(["part"] * len(data), context.request_ids, 200)
        raise RuntimeError("CUDA out of memory")

    call, sink = HandlerCall(handle, context, True, 1000), Sent()
    call.part_sink = sink
    replies = call.run(requests(b"a", b"b"))
    assert [part.body for _, part in sink.parts] == [b"part", b"part"]
    assert ([reply.status for reply in replies], calls) == ([507, 507], [2])


class Gone(Sent):
    """All clients are gone."""

    def find_gone(self, requests, gone):
        gone.update(request.id for request in requests)


def test_a_handler_that_sends_nothing_yet_can_find_out_that_the_client_is_gone(context):
    def handle(data, context):
        while True:
            context.cl_socket.check_wanted()

    call = HandlerCall(handle, context, True, 1000)
    call.part_sink = sink = Gone()
    [reply] = call.run(requests(b"a"))
    assert (reply.status, sink.parts) == (503, [])
    assert b"The request was cancelled." in reply.body


def test_a_handler_whose_client_is_there_goes_on(context):
    def handle(data, context):
        for _ in range(3):
            context.cl_socket.check_wanted()
        return ["done"]

    call = HandlerCall(handle, context, True, 1000)
    call.part_sink = Sent()
    assert [reply.body for reply in call.run(requests(b"a"))] == [b"done"]


def test_many_reports_of_progress_are_a_few_with_the_newest_last(context):
    def handle(data, context):
        for number in range(1, 10_001):
            context.report_progress(1, number / 10_000, f"step {number}")
        return ["done"] * len(data)

    call = HandlerCall(handle, context, True, 1000)
    call.part_sink = sink = Sent()
    call.run(requests(b"a", b"b"))
    newest = Progress(1.0, "step 10000")
    wait_for(lambda: sink.reports[-1][1] == newest, what="the newest report")
    assert {request.id for request, _ in sink.reports} == {requests(b"a", b"b")[1].id}
    assert sink.reports[0][1] == Progress(0.0001, "step 1")
    assert len(sink.reports) < 1000


@pytest.mark.parametrize(
    ("index", "fraction", "error"),
    [(0, 1.1, ValueError), (0, float("nan"), ValueError), (1, 0.5, IndexError)],
)
def test_a_report_that_cannot_be_is_the_handlers_error(context, index, fraction, error):
    def handle(data, context):
        with pytest.raises(error):
            context.report_progress(index, fraction)
        return ["done"]

    call = HandlerCall(handle, context, True, 1000)
    call.part_sink = sink = Sent()
    assert [reply.body for reply in call.run(requests(b"a"))] == [b"done"]
    assert sink.reports == []
