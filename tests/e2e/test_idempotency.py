"""Jobs with an idempotency key: the same key is the same job, whatever has changed meanwhile."""

import asyncio
from pathlib import Path

import handlers
import httpx
import pytest
from support import RunningServer, wait_for

import marq

JSON = {"content-type": "application/json"}
JOB_LIMIT = 5


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    one = {"minWorkers": 1, "maxWorkers": 1}
    make_archive(store, "echo", handlers.ECHO, one, "2.0").rename(store / "echo2.mar")
    make_archive(store, "echo", handlers.ECHO, one)
    make_archive(store, "slow", handlers.SLOW, one)
    running: RunningServer = start_server(store, max_queued_jobs=JOB_LIMIT, gateway_workers=1)
    running.wait_until_ready("echo")
    running.wait_until_ready("slow")
    return running


@pytest.fixture
def full(server: RunningServer):
    """Fills the queue of a model whose replica is away: the answer to the first job, which has this key."""

    def fill(key: str, body: bytes = b"x") -> httpx.Response:
        server.scale("slow", 0)
        first = submit(server, key, body)
        assert first.status_code == 202
        for number in range(1, JOB_LIMIT):
            assert submit(server, f"{key} {number}").status_code == 202
        return first

    yield fill
    server.scale("slow", 1)


def submit(server: RunningServer, key: str, body: bytes = b"x", model: str = "slow") -> httpx.Response:
    headers = {"Idempotency-Key": key} if key else {}
    return httpx.post(f"{server.inference}/jobs/{model}", content=body, headers=headers)


def waiting(server: RunningServer) -> int:
    (described,) = httpx.get(f"{server.management}/models/slow").json()
    return int(described["jobQueueStatus"]["pendingRequests"])


def test_the_same_idempotency_key_is_the_same_job(server: RunningServer) -> None:
    headers = {**JSON, "Idempotency-Key": "order 17"}
    first, second = (server.submit("echo", b"17", headers=headers) for _ in range(2))
    again = server.submit("echo", b"17", headers={**headers, "X-Request-Timeout": "60"})
    assert first == second == again
    assert server.result(first).json() == 17
    assert server.submit("echo", b"17", headers={**headers, "Idempotency-Key": "order 18"}) != first


def test_an_idempotency_key_for_another_request_is_refused(server: RunningServer) -> None:
    url, headers = f"{server.inference}/jobs/echo", {**JSON, "Idempotency-Key": "order 19"}
    assert httpx.post(url, content=b"19", headers=headers).status_code == 202
    refused = httpx.post(url, content=b"20", headers=headers)
    assert (refused.status_code, refused.json()["type"]) == (422, "IdempotencyConflictException")


def test_a_job_that_exists_is_told_also_while_the_queue_is_full(server: RunningServer, full) -> None:
    # Given a queue that is full
    first = full("mine")
    # When the first job is submitted again, and again
    for _ in range(3):
        again = submit(server, "mine")
        # Then it is the same
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["location"] == first.headers["location"]
    # And new ones are refused, as is the key for something else
    for key in ("new", ""):
        assert submit(server, key).status_code == 429
    assert submit(server, "mine", b"other").status_code == 422
    assert waiting(server) == JOB_LIMIT
    server.scale("slow", 1)
    assert server.result(first.json()["job_id"]).text == "done"


def test_a_job_that_is_submitted_again_takes_no_room(server: RunningServer) -> None:
    # Given a queue with two jobs
    wait_for(lambda: waiting(server) == 0)
    server.scale("slow", 0)
    for key in ("a", "b"):
        assert submit(server, key).status_code == 202

    # When one of them is submitted more often than there is room, at once
    async def again() -> list[int]:
        async with httpx.AsyncClient(base_url=server.inference, headers={"Idempotency-Key": "a"}) as client:
            answers = [await client.post("/jobs/slow", content=b"x") for _ in range(3 * JOB_LIMIT)]
            conflicts = [await client.post("/jobs/slow", content=b"y") for _ in range(3 * JOB_LIMIT)]
        return [answer.status_code for answer in answers + conflicts]

    assert asyncio.run(again()) == [202] * 3 * JOB_LIMIT + [422] * 3 * JOB_LIMIT
    # Then there still is room for the rest
    others = [submit(server, f"other {number}").status_code for number in range(JOB_LIMIT)]
    assert others == [202] * (JOB_LIMIT - 2) + [429] * 2
    server.scale("slow", 1)


def test_a_key_without_a_version_is_the_same_job_after_another_default(server: RunningServer) -> None:
    # Given jobs for the default version, by HTTP and by a client
    first = submit(server, "default", model="echo").json()
    with marq.Client(server.redis_url) as client:
        sent = client.submit("echo", b"x", key="client")
    # When another version becomes the default
    default = f"{server.management}/models/echo/{{}}/set-default"
    assert httpx.put(default.format("2.0")).status_code == 200
    # Then the same keys are the same jobs, which ran with the version of their time
    again = submit(server, "default", model="echo")
    assert (again.status_code, again.json()) == (202, first)
    with marq.Client(server.redis_url) as client:
        assert client.submit("echo", b"x", key="client").id == sent.id
        assert sent.id == submit(server, "client", model="echo").json()["job_id"]
    record = httpx.get(f"{server.inference}/jobs/{first['job_id']}?wait=20").json()
    assert (record["state"], record["version"]) == ("succeeded", "1.0")
    # And a version that is asked for is another request
    assert submit(server, "default", model="echo/2.0").status_code == 422
    assert httpx.put(default.format("1.0")).status_code == 200
