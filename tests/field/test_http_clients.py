"""HTTP clients of every age: HTTP/1.0 (`ab -k`), closing, pipelining, header names, large bodies."""

import json
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import RunningServer

HANDLER = """
import json
from ts.handler_utils.utils import send_intermediate_predict_response


def handle(data, context):
    if data is None:
        return None
    answers = []
    for index, row in enumerate(data):
        body = row["body"]
        order = body.encode() if isinstance(body, str) else bytes(body)
        headers = context.get_all_request_header(index)
        if order == b"headers":
            assert type(headers) is dict
            answers.append(json.dumps(dict(headers)))
        elif order == b"stream":
            send_intermediate_predict_response(["one "], context.request_ids, "", 200, context)
            answers.append("two")
        else:
            answers.append(order)
    return answers
"""
LIMIT = 100_000
JAVA = """
import java.net.*;

public class Ask {
    public static void main(String[] arguments) throws Exception {
        for (int i = 0; i < 50; i++) {
            HttpURLConnection connection = (HttpURLConnection) new URL(arguments[0]).openConnection();
            connection.setRequestMethod("POST");
            connection.setRequestProperty("Content-Type", "text/plain"); // its default is a form's
            connection.setDoOutput(true);
            if (i % 2 == 0) connection.setChunkedStreamingMode(4);
            try (var body = connection.getOutputStream()) { body.write(("request " + i).getBytes()); }
            System.out.println(new String(connection.getInputStream().readAllBytes()));
        }
    }
}
"""


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path_factory: Any
) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "m", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    running = start_server(store, "m.mar", max_request_size=LIMIT)
    running.wait_until_ready("m")
    return running


class Client:
    """A connection on which every byte is the test's."""

    def __init__(self, server: RunningServer) -> None:
        host, port = server.inference.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._file = self._socket.makefile("rb")

    def send(
        self, path: str, *headers: str, version: str = "1.0", body: str = "", method: str = "POST"
    ) -> None:
        lines = [f"{method} {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
        self._socket.sendall("\r\n".join((*lines, "", body)).encode())

    def send_head(self, path: str, *headers: str) -> None:
        self._socket.sendall("\r\n".join((f"POST {path} HTTP/1.1", "Host: x", *headers, "", "")).encode())

    def head(self) -> tuple[int, dict[str, str]]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value.lower()
        return status, headers

    def answer(self) -> tuple[int, dict[str, str], str]:
        """(status, headers, body) of an answer with a length."""
        status, headers = self.head()
        return status, headers, self._file.read(int(headers["content-length"])).decode()

    def rest(self) -> str:
        """Everything until the server ends the connection."""
        return self._file.read().decode()


@pytest.fixture
def client(server: RunningServer) -> Client:
    return Client(server)


PATHS = {
    "the fast path": ("/predictions/m", "POST", 200),
    "the ASGI path": ("/predictions/m/1.0/deep", "POST", 200),
    "explanations": ("/explanations/m", "POST", 200),
    "jobs": ("/jobs/m", "POST", 202),
    "ping": ("/ping", "GET", 200),
    "an unknown model": ("/predictions/none", "POST", 404),
    "an unknown path": ("/nothing/here", "GET", 404),
}
EVERY_PATH = pytest.mark.parametrize(("path", "method", "status"), PATHS.values(), ids=PATHS)


@EVERY_PATH
def test_an_http_1_0_client_that_asks_for_it_keeps_its_connection(
    client: Client, path: str, method: str, status: int
) -> None:
    for _ in range(3):
        client.send(path, "Connection: Keep-Alive", body="hello", method=method)
        found, headers, body = client.answer()
        assert (found, headers["connection"]) == (status, "keep-alive")
        assert "transfer-encoding" not in headers
        assert body


@EVERY_PATH
def test_the_connection_of_another_http_1_0_client_is_closed_after_the_answer(
    client: Client, path: str, method: str, status: int
) -> None:
    client.send(path, body="hello", method=method)
    found, headers, _ = client.answer()
    assert (found, headers["connection"]) == (status, "close")
    assert client.rest() == ""


@EVERY_PATH
def test_connection_close_is_obeyed(client: Client, path: str, method: str, status: int) -> None:
    client.send(path, "Connection: close", version="1.1", body="hello", method=method)
    found, headers, _ = client.answer()
    assert (found, headers["connection"]) == (status, "close")
    assert client.rest() == ""


@EVERY_PATH
def test_pipelined_requests_are_answered_in_their_order(
    client: Client, path: str, method: str, status: int
) -> None:
    for number in range(5):
        client.send("/predictions/m", version="1.1", body=f"first {number}")
        client.send(path, version="1.1", body=f"second {number}", method=method)
    for number in range(5):
        assert client.answer()[2] == f"first {number}"
        assert client.answer()[0] == status


@pytest.mark.parametrize("path", ["/predictions/m", "/predictions/m/1.0/deep"])
@pytest.mark.parametrize("asked", [[], ["Connection: keep-alive"]], ids=["plain", "keep-alive"])
def test_a_stream_reaches_an_http_1_0_client_without_chunks(
    client: Client, path: str, asked: list[str]
) -> None:
    client.send(path, *asked, body="stream")
    status, headers = client.head()
    assert (status, headers.get("transfer-encoding")) == (200, None)
    length = headers.get("content-length")
    if length is None:
        assert (headers["connection"], client.rest()) == ("close", "one two")
    else:
        assert int(length) == len("one two")


def test_handlers_get_header_names_and_values_as_the_client_sent_them(server: RunningServer) -> None:
    sent = {
        "X-Amzn-SageMaker-Custom-Attributes": "a=B", "x-lower": "1", "COOKIE": "Session=1",
        "Authorization": "Basic abc",
    }  # fmt: skip
    for path in ("/predictions/m", "/predictions/m/1.0/deep", "/explanations/m"):
        client = Client(server)
        client.send(
            path, *(f"{name}: {value}" for name, value in sent.items()), version="1.1", body="headers"
        )
        headers = json.loads(client.answer()[2])
        assert {name: headers.get(name) for name in sent} == sent
        assert "x-amzn-sagemaker-custom-attributes" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/predictions/m", "/predictions/m/1.0/deep", "/explanations/m", "/jobs/m", "/invocations",
        "/models/m/invoke", "/v1/models/m:predict", "/v2/models/m/infer", "/v1/batches",
    ],
)  # fmt: skip
@pytest.mark.parametrize("expects", [[], ["Expect: 100-continue"]], ids=["plain", "expects"])
def test_a_body_that_is_announced_too_large_is_refused_before_it_is_read(
    client: Client, path: str, expects: list[str]
) -> None:
    client.send_head(path, f"Content-Length: {LIMIT + 1}", *expects)
    status, _, body = client.answer()
    assert status == 413
    assert str(LIMIT) in body


@pytest.mark.slow
def test_marqs_own_token_is_withheld_from_handlers(
    start_server: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    make_archive(tmp_path / "store", "m", HANDLER, {"minWorkers": 1})
    server = start_server(tmp_path / "store", "m.mar", ["--enable-model-api"])
    keys = json.loads((server.log.parent / "key_file.json").read_text())
    token = {"Authorization": f"Bearer {keys['inference']['key']}", "X-Mine": "1"}
    url = f"{server.inference}/predictions/m"
    for path in (url, f"{url}/1.0/deep"):
        answer = httpx.post(path, content="headers", headers=token, timeout=60)
        headers = {name.lower(): value for name, value in answer.json().items()}
        assert headers["x-mine"] == "1"
        assert "authorization" not in headers


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("javac"), reason="there is no JDK here")
def test_javas_own_client_is_answered_with_chunked_bodies_and_without(
    server: RunningServer, tmp_path: Path
) -> None:
    (tmp_path / "Ask.java").write_text(JAVA)
    command = ["java", str(tmp_path / "Ask.java"), f"{server.inference}/predictions/m"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.split("\n")[:-1] == [f"request {number}" for number in range(50)], done.stderr
