"""Handlers whose answers or exceptions would break a server: each harms its own request only."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import RunningServer

HANDLER = """
import asyncio
import json
from ts.handler_utils.utils import send_intermediate_predict_response

ERRORS = {
    "GeneratorExit": GeneratorExit, "KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit,
    "CancelledError": asyncio.CancelledError, "BaseException": BaseException,
}


def handle(data, context):
    if data is None:
        return None
    answers = []
    for index, row in enumerate(data):
        if "body" not in row:
            answers.append("a form")
            continue
        order = json.loads(bytes(row["body"]))
        if "raise" in order:
            raise ERRORS[order["raise"]]()
        context.set_response_status(order.get("status", 200), "", index)
        for name, value in order.get("headers", {}).items():
            context.set_response_header(index, name, value)
        if order.get("stream"):
            send_intermediate_predict_response(["part"], context.request_ids, "", 200, context)
        answers.append("done")
    return answers
"""
COROUTINE = HANDLER.replace("def handle(data, context)", "async def handle(data, context)")
MODELS = ("sync", "coroutine")
FORM = (
    b"--B\r\nContent-Disposition: form-data; name*=a; name*0=b\r\n\r\nx\r\n"
    b'--B\r\nContent-Disposition: form-data; name="c"; filename*=a; filename*0=b\r\n\r\ny\r\n--B--\r\n'
)
FORM_TYPE = "multipart/form-data; boundary=B"


@pytest.fixture(scope="module")
def server(
    serve_models: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path_factory: Any
) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "responseTimeout": 20}
    make_archive(store, "sync", HANDLER, config)
    make_archive(store, "coroutine", COROUTINE, config | {"asyncCommunication": True})
    running = serve_models(store)
    for model in MODELS:
        running.wait_until_ready(model)
    return running


def exchange(server: RunningServer, order: dict[str, Any], timeout_header: bool = False) -> bytes:
    """The bytes that a connection gets for this order and for a plain one that follows it."""
    host, port = server.inference.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        for at, body in enumerate((json.dumps(order).encode(), b"{}")):
            lines = ["POST /predictions/sync HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
            lines += ["X-Request-Timeout: 15"] * timeout_header + ["Connection: close"] * at
            connection.sendall("\r\n".join((*lines, "", "")).encode() + body)
            if not at:
                received = connection.recv(65536)
        while data := connection.recv(65536):
            received += data
    return received


def goes_on(server: RunningServer) -> bool:
    return all(server.predict(model, b"{}").text == "done" for model in MODELS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "order",
    [
        {"status": 600}, {"status": 999}, {"status": 100}, {"headers": {"\u0142": "x"}},
        {"headers": {"x": "a\r\ny: b"}}, {"headers": {"x\r\ny": "b"}},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_an_answer_that_http_does_not_allow_fails_its_own_request(
    server: RunningServer, model: str, order: dict[str, Any]
) -> None:
    answer = server.predict(model, json.dumps(order).encode())
    assert answer.status_code == 503
    assert "y" not in answer.headers
    assert goes_on(server)
    assert server.result(server.submit(model, json.dumps(order).encode())).status_code == 503


@pytest.mark.parametrize("value", ["\u20ac", "\ud800"])
def test_a_header_value_outside_latin_1_arrives_with_question_marks(
    server: RunningServer, value: str
) -> None:
    assert server.predict("sync", json.dumps({"headers": {"x": value}}).encode()).headers["x"] == "?"


@pytest.mark.parametrize("timeout_header", [False, True], ids=["fast path", "ASGI"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", [204, 304])
def test_the_next_answer_of_a_connection_follows_one_without_a_body(
    server: RunningServer, status: int, stream: bool, timeout_header: bool
) -> None:
    received = exchange(server, {"status": status, "stream": stream}, timeout_header)
    first, rest = received.split(b"\r\n\r\n", 1)
    assert first.startswith(b"HTTP/1.1 %d " % status)
    assert b"content-length" not in first and b"transfer-encoding" not in first
    assert rest.startswith(b"HTTP/1.1 200 ") and rest.endswith(b"done")


@pytest.mark.parametrize("timeout_header", [False, True], ids=["fast path", "ASGI"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_framing_headers_of_a_handler_are_not_sent(
    server: RunningServer, stream: bool, timeout_header: bool
) -> None:
    own = {"Content-Length": "1", "Transfer-Encoding": "gzip", "Connection": "close", "Upgrade": "h2c"}
    received = exchange(server, {"headers": own | {"x": "kept"}, "stream": stream}, timeout_header)
    head = received.split(b"\r\n\r\n", 1)[0].lower()
    assert b"x: kept" in head and received.endswith(b"done")
    assert b"gzip" not in head and b"upgrade" not in head and b"content-length: 1\r" not in head
    assert received.count(b"HTTP/1.1 200 ") == 2


def test_the_result_of_a_job_can_be_fetched_whatever_its_handler_says(server: RunningServer) -> None:
    own = {"Content-Length": "1", "Transfer-Encoding": "gzip", "x": "kept"}
    answer = server.result(server.submit("sync", json.dumps({"headers": own}).encode()))
    assert (answer.status_code, answer.text, answer.headers["x"]) == (200, "done", "kept")
    empty = server.result(server.submit("sync", json.dumps({"status": 204}).encode()))
    assert (empty.status_code, empty.content) == (204, b"")


@pytest.mark.parametrize("model", MODELS)
def test_a_form_with_contradictory_parameters_is_answered(server: RunningServer, model: str) -> None:
    answer = server.predict(model, FORM, headers={"content-type": FORM_TYPE})
    assert (answer.status_code, answer.text) == (200, "a form")
    assert goes_on(server)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "error", ["GeneratorExit", "KeyboardInterrupt", "SystemExit", "CancelledError", "BaseException"]
)
def test_whatever_a_handler_raises_is_answered(server: RunningServer, model: str, error: str) -> None:
    order = json.dumps({"raise": error}).encode()
    assert server.predict(model, order).status_code == 503
    assert server.result(server.submit(model, order)).status_code == 503
    assert goes_on(server)
