"""Jobs: over HTTP, and from producers that write to the queue themselves."""

import asyncio
import time
from pathlib import Path

import handlers
import httpx
import pytest
import redis
from gate import Gate, closed
from support import RunningServer, wait_for

import marq
from marq import keys
from marq.errors import JobNotFound, ModelNotFound

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"batchSize": 8, "maxBatchDelay": 5, "minWorkers": 1, "maxWorkers": 1}
    make_archive(store, "echo", handlers.ECHO, config)
    make_archive(store, "slow", handlers.SLOW, {"minWorkers": 1, "maxWorkers": 1})
    running: RunningServer = serve_models(store)
    running.wait_until_ready("echo")
    running.wait_until_ready("slow")
    return running


@pytest.fixture
def client(server: RunningServer):
    with marq.Client(server.redis_url) as opened:
        yield opened


def test_a_job_is_accepted_at_once_and_its_result_is_kept(server: RunningServer) -> None:
    # When a job is submitted
    accepted = httpx.post(f"{server.inference}/jobs/echo", content=b'{"n": 1}', headers=JSON)
    # Then it has an id and a place
    assert accepted.status_code == 202
    location = accepted.headers["location"]
    assert location == f"/jobs/{accepted.json()['job_id']}"
    # And once finished its times, and the handler's own bytes
    job = httpx.get(f"{server.inference}{location}?wait=30").json()
    assert job["state"] == "succeeded"
    assert job["queued"] <= job["started"] <= job["finished"]
    assert (job["model"], job["version"], job["attempts"], job["device"]) == ("echo", "1.0", 1, "cpu")
    result = httpx.get(server.inference + job["result"])
    assert (result.status_code, result.json()) == (200, {"n": 1})


def test_a_result_has_the_status_and_headers_that_the_handler_set(server: RunningServer) -> None:
    accepted = httpx.post(f"{server.inference}/jobs/echo", content=b'{"status": 418}', headers=JSON)
    result = httpx.get(f"{server.inference}{accepted.headers['location']}/result?wait=30")
    assert (result.status_code, result.text) == (418, "short and stout")
    assert result.headers["content-type"] == "text/tea"
    assert result.headers["x-pot"] == "small"


def test_a_job_goes_through_queued_and_running(server: RunningServer, gate: Gate) -> None:
    urls = [f"{server.inference}/jobs/{server.submit('slow', f'hold {gate}'.encode())}" for _ in range(3)]
    wait_for(lambda: httpx.get(urls[0]).json()["state"] == "running", what="the first job to run")
    last = httpx.get(urls[2]).json()
    assert last["state"] == "queued"
    assert "result" not in last
    too_early = httpx.get(f"{urls[2]}/result")
    assert too_early.status_code == 409
    gate.open()
    assert [httpx.get(f"{url}?wait=30").json()["state"] for url in urls] == ["succeeded"] * 3


def test_waiting_ends_when_the_job_does_and_not_later(server: RunningServer, gate: Gate) -> None:
    url = f"{server.inference}/jobs/{server.submit('slow', f'hold {gate}'.encode())}"
    assert httpx.get(f"{url}?wait=0.1").json()["state"] in ("queued", "running")
    gate.open()
    began = time.monotonic()
    assert httpx.get(f"{url}?wait=50").json()["state"] == "succeeded"
    assert time.monotonic() - began < 45


def test_a_job_whose_handler_raises_has_failed_with_the_error_as_its_result(server: RunningServer) -> None:
    text = {"content-type": "text/plain"}
    accepted = httpx.post(f"{server.inference}/jobs/echo", content=b"fail", headers=text)
    url = server.inference + accepted.headers["location"]
    assert httpx.get(f"{url}?wait=30").json()["state"] == "failed"
    result = httpx.get(f"{url}/result")
    assert (result.status_code, result.json()["message"]) == (503, "Prediction failed")


@pytest.mark.parametrize("job_id", ["echo:unknown", "nonsense", "a:b:c"])
def test_an_unknown_job_is_a_404(server: RunningServer, job_id: str) -> None:
    answer = httpx.get(f"{server.inference}/jobs/{job_id}")
    assert (answer.status_code, answer.json()["type"]) == (404, "JobNotFoundException")


def test_a_job_for_an_unknown_model_is_a_404_and_a_bad_wait_a_422(server: RunningServer) -> None:
    assert httpx.post(f"{server.inference}/jobs/nobody", content=b"x").status_code == 404
    answer = httpx.get(f"{server.inference}/jobs/echo:x?wait=soon")
    assert answer.status_code == 422
    assert "wait" in answer.json()["message"]


def test_a_client_predicts_and_submits_without_http(client: marq.Client) -> None:
    assert client.predict("echo", {"a": 1}).json() == {"a": 1}
    job = client.submit("echo", "text")
    assert job.result(timeout=60).text == "text"
    assert job.status().state == "succeeded"


def test_many_jobs_keep_their_order(client: marq.Client) -> None:
    jobs = client.submit_many("echo", list(range(500)))
    assert [job.result(timeout=60).json() for job in jobs] == list(range(500))


def test_a_client_is_told_of_failures(client: marq.Client, gate: Gate) -> None:
    with pytest.raises(marq.client.PredictionFailed, match="503"):
        client.predict("echo", "fail")
    with pytest.raises(ModelNotFound):
        client.submit("nobody", b"x")
    with pytest.raises(JobNotFound):
        client.result("echo:unknown", timeout=1)
    with pytest.raises(TimeoutError):
        client.predict("slow", f"hold {gate}".encode(), timeout=0.05)


def test_the_asynchronous_client_does_the_same(server: RunningServer) -> None:
    async def use() -> tuple[list[int], int]:
        async with marq.AsyncClient(server.redis_url) as client:
            answers = await asyncio.gather(*(client.predict("echo", number) for number in range(50)))
            job = await client.submit("echo", 7)
            return [answer.json() for answer in answers], (await job.result(60)).json()

    assert asyncio.run(use()) == (list(range(50)), 7)


def test_a_producer_in_any_language_needs_only_xadd(server: RunningServer) -> None:
    lane = keys.lane("echo", "1.0")
    with redis.Redis.from_url(server.redis_url) as connection:
        # Given an entry with the least there can be, and a stream to answer on
        connection.xadd(lane, {"body": b"hello", "reply": "answers"})
        # When it has been answered
        replies = connection.xread({"answers": "0"}, block=60_000)
        # Then the reply has the status and the handler's bytes
        fields = replies[0][1][0][1]
    assert (fields[b"status"], fields[b"body"]) == (b"200", b"hello")


def test_a_malformed_entry_goes_to_the_dead_letters_and_nothing_stops(server: RunningServer) -> None:
    lane = keys.lane("echo", "1.0")
    with redis.Redis.from_url(server.redis_url) as connection:
        connection.xadd(lane, {"nonsense": b"\x00\xff"})
        connection.xadd(lane, {"body": b"x", "deadline": "tomorrow"})
        wait_for(lambda: connection.xlen(keys.dead_letters("echo")) >= 2, what="two dead letters")
        letters = [fields for _, fields in connection.xrange(keys.dead_letters("echo"))]
        assert server.predict("echo", b"still here").content == b"still here"
        assert connection.xlen(lane) == 0
    assert b"`body` is missing" in letters[0][b"reason"]
    assert letters[0][b"nonsense"] == b"\x00\xff"
    assert b"`deadline`" in letters[1][b"reason"]


def test_a_request_past_its_deadline_is_answered_and_never_run(server: RunningServer) -> None:
    lane, past = keys.lane("echo", "1.0"), int(time.time() * 1000) - 1000
    with redis.Redis.from_url(server.redis_url) as connection:
        connection.xadd(lane, {"body": b"late", "deadline": past, "reply": "late-answers"})
        fields = connection.xread({"late-answers": "0"}, block=60_000)[0][1][0][1]
    assert fields[b"status"] == b"504"


def test_clients_can_submit_with_a_key_and_cancel(client, server: RunningServer, gate: Gate) -> None:
    first, second = (client.submit("echo", {"n": 1}, key="mine") for _ in range(2))
    assert first.id == second.id
    assert first.result(timeout=60).json() == {"n": 1}
    assert client.cancel(first) is False
    client.submit("slow", f"hold {gate}".encode())
    waiting = client.submit("slow", b"x")
    assert client.cancel(waiting) is True
    assert waiting.status().state == "cancelled"


def test_a_job_that_cannot_be_started_in_time_expires(
    client: marq.Client, server: RunningServer, gate: Gate
) -> None:
    # Given a replica that is busy for a while
    busy = [client.submit("slow", f"hold {gate}".encode()) for _ in range(2)]
    gate.wait_until_reached()
    # When jobs must be started before it is free, or have time
    late, *more = [
        client.submit("slow", b"x", start_within=0.2),
        *client.submit_many("slow", [b"x"], start_within=0.2),
    ]
    prompt = client.submit("slow", b"x", start_within=60)
    time.sleep(0.3)
    gate.open()
    # Then only those that came too late were not run
    for job in (late, *more):
        with pytest.raises(marq.JobExpired, match="504"):
            job.result(timeout=60)
    assert [job.status().state for job in (late, *more)] == ["expired"] * 2
    assert prompt.result(timeout=60).text == "done"
    assert [job.result(timeout=60).text for job in busy] == ["done"] * 2


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e17])
def test_a_time_that_is_none_is_refused_by_the_client(client: marq.Client, seconds: float) -> None:
    with pytest.raises(ValueError, match="start_within must be above 0"):
        client.submit("echo", b"x", start_within=seconds)


def test_progress_is_shown_while_the_job_runs(
    server: RunningServer, client: marq.Client, tmp_path: Path
) -> None:
    with closed(tmp_path / "gate") as gate:
        # Given a job whose handler has reported progress
        job = client.submit("slow", f"report {gate}".encode())
        gate.wait_until_reached()
        # Then its record has it
        url = f"{server.inference}/jobs/{job}"
        found = wait_for(lambda: httpx.get(url).json().get("progress"), what="the progress")
        assert found == {"fraction": 0.5, "message": "half done"}
        # And a reader of its events gets it, and all until the end
        events = job.events()
        assert next(event.data for event in events if event.kind == "progress") == found
        gate.open()
        assert [event.data["state"] for event in events if event.kind == "state"][-1] == "succeeded"


def test_a_command_shows_progress_and_prints_the_result(server: RunningServer, tmp_path: Path) -> None:
    with closed(tmp_path / "gate") as gate:
        gate.open()
        body = tmp_path / "body.bin"
        body.write_text(f"report {gate}")
        done = server.command("submit", "slow", str(body), "--wait", "--progress")
    assert (done.returncode, done.stdout) == (0, "done")
    assert "100% succeeded" in done.stderr
