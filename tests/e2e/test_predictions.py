"""Predictions over HTTP, through Redis, to a real replica and back."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import pytest
from support import RunningServer, wait_for

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
LIMIT = 100_000


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(
        store, "echo", handlers.ECHO, {"batchSize": 8, "maxBatchDelay": 5, "minWorkers": 1, "maxWorkers": 1}
    )
    running: RunningServer = start_server(store, max_request_size=LIMIT)
    running.wait_until_ready("echo")
    return running


def test_a_body_comes_back_as_the_handler_returned_it(server: RunningServer) -> None:
    answer = server.predict("echo", b"\x00\xff raw")
    assert (answer.status_code, answer.content) == (200, b"\x00\xff raw")


def test_json_reaches_the_handler_parsed_and_text_as_str(server: RunningServer) -> None:
    as_json = server.predict("echo", b'{"a": [1, 2]}', headers={"content-type": "application/json"})
    as_text = server.predict(
        "echo", "gr\u00fc\u00df".encode(), headers={"content-type": "text/plain; charset=utf-8"}
    )
    assert as_json.json() == {"a": [1, 2]}
    assert as_text.text == "gr\u00fc\u00df"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_any_method_runs_the_model(server: RunningServer, method: str) -> None:
    answer = httpx.request(method, f"{server.inference}/predictions/echo", content=b"x")
    assert (answer.status_code, answer.content) == (200, b"x")


def test_an_empty_body_is_an_empty_row(server: RunningServer) -> None:
    assert server.predict("echo").content == b""


def test_the_version_and_what_follows_it_reach_the_handler(server: RunningServer) -> None:
    headers = {"content-type": "text/plain", "x-agent": "me"}
    url = f"{server.inference}/predictions/echo/1.0/some/path"
    answer = httpx.post(url, content=b"headers", headers=headers)
    assert answer.json()["path"] == "some/path"
    assert answer.json()["agent"] == "me"


def test_the_handler_sees_the_request_id_that_the_client_gets(server: RunningServer) -> None:
    answer = server.predict("echo", b"headers", headers={"content-type": "text/plain"})
    assert UUID.fullmatch(answer.headers["x-request-id"])
    assert answer.json()["request"] == answer.headers["x-request-id"]


def test_the_handler_sees_its_context(server: RunningServer) -> None:
    answer = server.predict("echo", b"context", headers={"content-type": "text/plain"})
    assert answer.json() == {"name": "echo", "gpu": None, "batch": 8}


def test_the_handler_sets_status_content_type_and_headers_of_its_row_only(server: RunningServer) -> None:
    # Given a teapot among ordinary requests of the same moment
    kind = {"content-type": "application/json"}
    bodies = [b'{"status": 418}', *(str(number).encode() for number in range(7))]
    # When they are sent at once
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda body: server.predict("echo", body, headers=kind), bodies))
    # Then only the teapot is one
    assert [answer.status_code for answer in answers] == [418] + [200] * 7
    assert answers[0].text == "short and stout"
    assert answers[0].headers["content-type"] == "text/tea"
    assert answers[0].headers["x-pot"] == "small"
    assert [json.loads(answer.content) for answer in answers[1:]] == list(range(7))
    assert all("content-type" not in answer.headers for answer in answers[1:])


def test_answers_carry_the_headers_of_the_contract(server: RunningServer) -> None:
    headers = server.predict("echo", b"x").headers
    assert headers["pragma"] == "no-cache"
    assert headers["cache-control"] == "no-cache; no-store, must-revalidate, private"
    assert headers["expires"] == "Thu, 01 Jan 1970 00:00:00 UTC"


def test_pipelined_requests_are_answered_in_their_order(server: RunningServer) -> None:
    import socket

    host, port = server.inference.removeprefix("http://").split(":")
    requests = [
        b"POST /predictions/echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n%02d" % number
        for number in range(20)
    ]
    with socket.create_connection((host, int(port))) as sock:
        sock.settimeout(10)
        sock.sendall(b"".join(requests))
        received = b""
        while received.count(b"HTTP/1.1 200") < 20 or not received.endswith(b"19"):
            received += sock.recv(65536)
    bodies = [part.split(b"\r\n\r\n", 1)[1][:2] for part in received.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"%02d" % number for number in range(20)]


def test_a_client_that_asks_to_close_gets_its_answer_and_the_end(server: RunningServer) -> None:
    answer = server.predict("echo", b"bye", headers={"connection": "close"})
    assert answer.content == b"bye"
    assert answer.headers["connection"] == "close"


def test_a_chunked_body_is_put_together(server: RunningServer) -> None:
    answer = httpx.post(f"{server.inference}/predictions/echo", content=iter([b"one ", b"two ", b"three"]))
    assert answer.content == b"one two three"


def test_an_unknown_model_is_a_404(server: RunningServer) -> None:
    answer = server.predict("nobody", b"x")
    assert answer.status_code == 404
    expected = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: nobody"}
    assert answer.json() == expected
    assert answer.text == json.dumps(expected, indent=2) + "\n"


def test_an_unknown_version_is_a_404(server: RunningServer) -> None:
    answer = server.predict("echo/7.0", b"x")
    assert answer.json() == {
        "code": 404,
        "type": "ModelVersionNotFoundException",
        "message": "Model version: 7.0 does not exist for model: echo",
    }


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_the_limit_is_a_413_with_the_reason(server: RunningServer, chunked: bool) -> None:
    big = b"x" * (LIMIT + 1)
    content = iter([big[:50_000], big[50_000:]]) if chunked else big
    answer = httpx.post(f"{server.inference}/predictions/echo", content=content)
    assert answer.status_code == 413
    assert str(LIMIT) in answer.json()["message"]
    assert server.predict("echo", b"x" * LIMIT).content == b"x" * LIMIT


def test_a_handler_that_raises_is_a_503_and_its_traceback_is_in_the_model_log(server: RunningServer) -> None:
    answer = server.predict("echo", b"fail", headers={"content-type": "text/plain"})
    assert answer.json() == {"code": 503, "type": "InternalServerException", "message": "Prediction failed"}
    assert answer.status_code == 503
    wait_for(lambda: "ValueError: the handler's own reason" in server.model_log)
    wait_for(lambda: answer.headers["x-request-id"] in server.model_log)


def test_an_unknown_path_is_a_404_of_the_contract(server: RunningServer) -> None:
    answer = httpx.get(f"{server.inference}/nowhere")
    assert (answer.status_code, answer.json()["type"]) == (404, "ResourceNotFoundException")


def test_ping_tells_that_the_server_is_healthy(server: RunningServer) -> None:
    answer = httpx.get(f"{server.inference}/ping")
    assert (answer.status_code, answer.text) == (200, '{\n  "status": "Healthy"\n}\n')
