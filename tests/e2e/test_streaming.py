"""Handlers that answer in parts: `send_intermediate_predict_response`, through the queue, as chunked HTTP."""

import http.client
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import pytest
from gate import Gate
from support import RunningServer, wait_for

import marq

TEXT = {"content-type": "text/plain"}
WHOLE = "0.0 0.1 0.2 0.end"


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "stream", handlers.STREAM, {"minWorkers": 1, "maxWorkers": 1, "maxAttempts": 2})
    make_archive(
        store, "together", handlers.STREAM,
        {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 60_000, "batching": "fixed"},
    )  # fmt: skip
    make_archive(
        store,
        "impatient",
        handlers.STREAM,
        {"minWorkers": 1, "maxWorkers": 1, "clientTimeoutInMills": 50000},
    )
    running: RunningServer = serve_models(store)
    for model in ("stream", "together", "impatient"):
        running.wait_until_ready(model)
    return running


@pytest.mark.parametrize("model", ["stream", "impatient"])
def test_parts_arrive_as_they_are_sent(server: RunningServer, model: str, gate: Gate) -> None:
    url = f"{server.inference}/predictions/{model}"
    with httpx.stream("POST", url, content=f"4 end {gate}", headers=TEXT) as response:
        parts = []
        for part in response.iter_text():
            parts.append(part)
            gate.open()  # nothing but the first part comes before
        assert response.headers["transfer-encoding"] == "chunked"
        assert response.headers["content-type"] == "text/plain"
        assert "ts_stream_next" not in response.headers
    assert parts[0] == "0.0 "
    assert "".join(parts) == "0.0 0.1 0.2 0.3 0.end"


def test_the_connection_serves_the_next_request_after_a_stream(server: RunningServer) -> None:
    with httpx.Client(base_url=server.inference) as client:
        answers = [client.post("/predictions/stream", content=b"3 end", headers=TEXT) for _ in range(3)]
    assert [answer.text for answer in answers] == [WHOLE] * 3
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3


def test_a_handler_that_does_not_stream_this_time_answers_whole(server: RunningServer) -> None:
    answer = server.predict("stream", b"0 end", headers=TEXT)
    assert answer.text == "0.end"
    assert answer.headers["content-length"] == "5"


def test_each_request_of_a_batch_gets_its_own_parts(server: RunningServer) -> None:
    with ThreadPoolExecutor(4) as executor:
        answers = list(executor.map(lambda _: server.predict("together", b"3 end", headers=TEXT), range(4)))
    assert sorted(answer.text for answer in answers) == [WHOLE.replace("0.", f"{n}.", 1)
        .replace(" 0.", f" {n}.") for n in range(4)]  # fmt: skip


def test_an_error_after_the_first_part_cuts_the_answer_off(server: RunningServer) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.predict("stream", b"2 fail", headers=TEXT)
    with pytest.raises(httpx.RemoteProtocolError):
        server.predict("impatient", b"2 fail", headers=TEXT)


def test_an_error_before_the_first_part_is_an_ordinary_error(server: RunningServer) -> None:
    answer = server.predict("stream", b"0 fail", headers=TEXT)
    assert (answer.status_code, answer.json()["message"]) == (503, "Prediction failed")


def test_a_part_that_cannot_be_encoded_cuts_the_answer_off_and_is_in_the_log(server: RunningServer) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.predict("stream", b"1 unknown", headers=TEXT)
    wait_for(lambda: "Object of type object is not JSON serializable" in server.model_log)


def test_a_stream_whose_replica_dies_is_cut_off_not_begun_anew(server: RunningServer) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        server.predict("stream", b"3 die", headers=TEXT)
    assert server.predict("stream", b"3 end", headers=TEXT).text == WHOLE


def test_a_client_of_http_1_0_gets_the_stream_without_chunks(server: RunningServer) -> None:
    connection = http.client.HTTPConnection(*server.inference.removeprefix("http://").split(":"))
    connection._http_vsn, connection._http_vsn_str = 10, "HTTP/1.0"
    connection.request("POST", "/predictions/stream", b"3 end", TEXT)
    assert WHOLE in connection.getresponse().read().decode()


def test_a_job_streams_what_is_there_and_the_rest_as_it_comes(server: RunningServer, gate: Gate) -> None:
    job = server.submit("stream", f"6 end {gate}".encode(), headers=TEXT)
    with httpx.stream("GET", f"{server.inference}/jobs/{job}/result?wait=50") as response:
        text = ""
        for part in response.iter_text():
            text += part
            gate.open()  # nothing but the first part comes before
        assert response.headers["content-type"] == "text/plain"
    assert text == "0.0 0.1 0.2 0.3 0.4 0.5 0.end"
    assert server.result(job).text == text


def test_a_job_whose_stream_failed_has_the_failure_as_its_result(server: RunningServer) -> None:
    job = server.submit("stream", b"2 fail", headers=TEXT)
    assert httpx.get(f"{server.inference}/jobs/{job}?wait=50").json()["state"] == "failed"
    assert server.result(job).status_code == 503


def test_clients_of_the_queue_get_the_whole_answer(server: RunningServer) -> None:
    with marq.Client(server.redis_url) as client:
        assert client.predict("stream", "3 end").text == WHOLE
        assert client.submit("stream", "3 end").result(timeout=60).text == WHOLE


def test_a_stream_that_nobody_reads_any_more_is_stopped(server: RunningServer) -> None:
    with httpx.stream(
        "POST", f"{server.inference}/predictions/stream", content=b"4000 slow", headers=TEXT
    ) as r:
        next(r.iter_text())
    # The one replica would be busy for ten minutes, and nothing is waited for that long.
    assert server.predict("stream", b"3 end", headers=TEXT).text == WHOLE
    wait_for(lambda: "The request was cancelled." in server.model_log)


def test_a_job_that_is_cancelled_while_it_streams_is_stopped(server: RunningServer) -> None:
    job = server.submit("stream", b"4000 slow", headers=TEXT)
    wait_for(lambda: httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "running")
    assert httpx.delete(f"{server.inference}/jobs/{job}").json()["state"] == "cancelled"
    assert server.predict("stream", b"3 end", headers=TEXT).text == WHOLE
