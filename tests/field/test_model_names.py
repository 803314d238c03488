"""Models whose names have letters of any language, spaces and underscores, percent-encoded in paths."""

import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import httpx
import psutil
import pytest
from support import RunningServer, wait_for

import marq

HANDLER = """
import os


def handle(data, context):
    if data is None:
        return None
    if bytes(data[0]["body"]) == b"die":
        os._exit(1)
    context.metrics.add_counter("Seen", 1)
    return [f"{context.model_name}: ".encode() + bytes(row["body"]) for row in data]
"""
NAMES = ["감성분석", "_my model"]
MORE_NAMES = ["नमूना", "Größe (v2)", "🙂", "a+b~c!", "x" * 100]


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., RunningServer], make_archive: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> RunningServer:  # fmt: skip
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "m", HANDLER, {"minWorkers": 1, "maxWorkers": 1, "maxAttempts": 2})
    arguments = ["--disable-token-auth", "--enable-model-api"]
    return start_server(
        store, ["at start=m.mar"], arguments, metrics_mode="prometheus", model_metrics_auto_detect=True
    )


@pytest.fixture(
    scope="module",
    params=[*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE_NAMES)],
)
def name(request: pytest.FixtureRequest, server: RunningServer) -> str:
    query = {"url": "m.mar", "model_name": request.param, "initial_workers": "1", "synchronous": "true"}
    answer = httpx.post(f"{server.management}/models", params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return str(request.param)


@pytest.mark.parametrize(
    "path", ["/predictions/{}", "/predictions/{}/1.0", "/{}/predict", "/models/{}/invoke"]
)
def test_it_answers(server: RunningServer, name: str, path: str) -> None:
    url = server.inference + path.format(quote(name))
    assert httpx.post(url, content="hello", timeout=60).text == f"{name}: hello"


def test_its_jobs_are_submitted_found_and_finished(server: RunningServer, name: str) -> None:
    submitted = httpx.post(f"{server.inference}/jobs/{quote(name)}", content="job", timeout=60)
    assert submitted.status_code == 202
    location = submitted.headers["location"]
    assert httpx.get(f"{server.inference}{location}/result?wait=30", timeout=60).text == f"{name}: job"
    record = httpx.get(server.inference + location).json()
    assert record["job_id"] == submitted.json()["job_id"]
    assert httpx.get(server.inference + record["result"]).text == f"{name}: job"


def test_producers_submit_to_it_without_http(server: RunningServer, name: str) -> None:
    with marq.Client(server.redis_url) as client:
        assert client.submit(name, b"direct").result(30).body == f"{name}: direct".encode()


def test_it_is_described_scaled_and_listed(server: RunningServer, name: str) -> None:
    url = f"{server.management}/models/{quote(name)}"
    assert httpx.get(url).json()[0]["modelName"] == name
    scaled = httpx.put(f"{url}?min_worker=2&max_worker=2&synchronous=true", timeout=60)
    assert scaled.status_code == 200, scaled.text
    assert len(httpx.get(url).json()[0]["workers"]) == 2
    assert name in [each["modelName"] for each in httpx.get(f"{server.management}/models").json()["models"]]
    assert httpx.put(f"{url}/1.0/set-default").status_code == 200


def test_the_command_line_takes_it(server: RunningServer, name: str) -> None:
    described = server.marq("describe", name, "--json")
    assert described.returncode == 0, described.stderr
    assert json.loads(described.stdout)[0]["modelName"] == name


def test_its_metrics_bear_its_name(server: RunningServer, name: str) -> None:
    server.predict(quote(name), b"hello")

    def shown() -> bool:
        text = httpx.get(f"{server.metrics}/metrics").text
        return any(line.startswith("Seen{") and f'"{name}"' in line for line in text.splitlines())

    wait_for(shown, what="its metrics")


def test_a_request_that_kills_its_replicas_is_given_up_and_the_others_are_answered(
    server: RunningServer, name: str
) -> None:
    answer = server.predict(quote(name), b"die")
    assert (answer.status_code, answer.json()["message"]) == (500, "Worker died.")
    letters = httpx.get(f"{server.management}/dead-letters/{quote(name)}").json()
    assert len(letters["dead_letters"]) == 1
    wait_for(lambda: _kill(server, name), what="a replica to kill")
    assert server.predict(quote(name), b"after").text == f"{name}: after"


def _kill(server: RunningServer, name: str) -> bool:
    """Whether a replica that describe shows was still there to be killed."""
    with contextlib.suppress(psutil.NoSuchProcess, IndexError):
        psutil.Process(server.workers(quote(name))[0]["pid"]).kill()
        return True
    return False


def test_it_is_unregistered(server: RunningServer, name: str) -> None:
    url = f"{server.management}/models/{quote(name)}"
    assert httpx.delete(url, timeout=60).status_code == 200
    assert httpx.get(url).status_code == 404


def test_the_name_at_the_start_may_have_a_space(server: RunningServer) -> None:
    server.wait_until_ready("at%20start")
    assert server.predict("at%20start", b"hello").text == "at start: hello"


@pytest.mark.parametrize(
    "given", ["%", "a/b", "a{b}", "..", "-x", " x", "x ", "a:b", "a\nb", "x" * 101, "🙂" * 31]
)
def test_a_name_that_could_do_harm_is_refused_with_the_rule(server: RunningServer, given: str) -> None:
    answer = httpx.post(f"{server.management}/models", params={"url": "m.mar", "model_name": given})
    assert answer.status_code == 400
    assert "A model name has up to 100 characters" in answer.json()["message"]


def test_raw_bytes_in_a_path_are_a_clear_error(server: RunningServer) -> None:
    host, port = server.inference.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall("GET /predictions/감성 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(1000).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))
