"""What waits is bounded: by the model's queue limit, and by Redis's memory."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import handlers
import httpx
import pytest
import redis
from gate import Gate
from support import RunningServer, wait_for

from marq import keys

LIMIT, JOB_LIMIT = 10, 30


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "slow", handlers.SLOW, {"minWorkers": 1, "maxWorkers": 1, "jobQueueSize": LIMIT})
    running: RunningServer = start_server(store, max_queued_jobs=JOB_LIMIT, gateway_workers=2)
    running.wait_until_ready("slow")
    return running


def burst(server: RunningServer, count: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as executor:
        return list(executor.map(lambda _: server.predict("slow", b"x"), range(count)))


def drained(server: RunningServer) -> bool:
    return server.predict("slow", b"x").status_code == 200


def test_what_is_over_the_limit_is_refused_at_once_and_the_rest_is_answered(
    server: RunningServer, gate: Gate
) -> None:
    held = f"hold {gate}".encode()
    with redis.Redis.from_url(server.redis_url) as client, ThreadPoolExecutor(4 * LIMIT) as executor:
        # When more come than may wait, while the replica is busy
        asked = [executor.submit(server.predict, "slow", held) for _ in range(4 * LIMIT)]

        def refused() -> int:
            return sum(answer.done() for answer in asked)

        # Then those over the limit are refused before any other is answered
        wait_for(lambda: refused() + client.xlen(keys.lane("slow", "1.0")) == 4 * LIMIT, what="all requests")
        refused_first = {answer for answer in asked if answer.done()}
        gate.open()
        answers = [answer.result() for answer in asked]
    accepted = [answer for answer in answers if answer.status_code == 200]
    assert {answer.result().status_code for answer in refused_first} == {503}
    assert len(accepted) + len(refused_first) == 4 * LIMIT
    # Each of the two gateways knows what the other has queued a moment later only.
    assert LIMIT <= len(accepted) <= 2 * LIMIT + 4
    assert {answer.text for answer in accepted} == {"done"}
    assert "jobQueueSize allows 10" in refused_first.pop().result().json()["message"]


@pytest.mark.slow
def test_a_refusal_tells_when_to_try_again_from_the_rate_of_the_last_seconds(server: RunningServer) -> None:
    with ThreadPoolExecutor(1) as executor:
        running = executor.submit(burst, server, 2 * LIMIT)
        time.sleep(2.5)
        refused = [answer for answer in burst(server, 3 * LIMIT) if answer.status_code == 503]
        running.result()
    seconds = {int(answer.headers["retry-after"]) for answer in refused}
    assert 2 <= max(seconds) <= 60  # ten rows, two a second where the machine has nothing else to do


def test_jobs_have_a_limit_of_their_own_and_are_refused_with_429(server: RunningServer, gate: Gate) -> None:
    wait_for(lambda: drained(server))
    with httpx.Client(base_url=server.inference) as client:
        answers = [client.post("/jobs/slow", content=f"hold {gate}") for _ in range(2 * JOB_LIMIT)]
    accepted = [answer.json()["job_id"] for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(accepted) + len(refused) == len(answers)
    assert JOB_LIMIT <= len(accepted) <= JOB_LIMIT + 5
    assert refused[0].json()["type"] == "TooManyRequestsException"
    assert int(refused[0].headers["retry-after"]) >= 1
    for job in accepted[:-1]:
        httpx.delete(f"{server.inference}/jobs/{job}")
    gate.open()
    assert server.result(accepted[-1]).text == "done"


@pytest.mark.slow
def test_the_bytes_that_wait_for_all_models_together_are_limited(
    start_server, make_archive, tmp_path_factory, gate: Gate
) -> None:
    # Given two models, room for 2 MB, and bodies of 300 KB for one of them
    store, body = tmp_path_factory.mktemp("store"), b"x" * 300_000
    config = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "maxBatchDelay": 1}
    for name in ("slow", "other"):
        make_archive(store, name, handlers.SLOW, config)
    # (as files they would not count, which have a bound of their own)
    server = start_server(store, max_queued_bytes=2_000_000, gateway_workers=2, payload_threshold=0)
    for name in ("slow", "other"):
        server.wait_until_ready(name)
    with httpx.Client(base_url=server.inference) as client:
        answers = [client.post("/jobs/slow", content=f"hold {gate}")]
        gate.wait_until_reached()
        for _ in range(10):
            answers.append(client.post("/jobs/slow", content=body))
            time.sleep(0.05)
    accepted = [answer.json()["job_id"] for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 429]
    # Then what does not fit is refused, and tells why and when to try again
    assert len(accepted) + len(refused) == 11
    assert 6 <= len(accepted) <= 10
    assert "max_queued_bytes: 2000000" in refused[0].json()["message"]
    assert int(refused[0].headers["retry-after"]) >= 1

    # And the other model has no room either, on no gateway, while small requests still fit
    def asked_for_much() -> set[int]:
        return {server.predict("other", b"x" * 1_900_000).status_code for _ in range(4)}

    wait_for(lambda: asked_for_much() == {503}, what="both gateways to look")
    assert server.predict("other", b"x").text == "done"
    gate.open()
    # And all that was accepted is answered, whereupon there is room again
    assert {server.result(job).text for job in accepted} == {"done"}
    wait_for(lambda: server.predict("other", b"x" * 1_900_000).status_code == 200)


def test_when_redis_is_nearly_full_new_requests_are_refused_and_running_ones_answered(
    server: RunningServer, gate: Gate
) -> None:
    wait_for(lambda: drained(server))
    with redis.Redis.from_url(server.redis_url) as client, ThreadPoolExecutor(1) as executor:
        used = client.info("memory")["used_memory"]
        running = executor.submit(server.predict, "slow", f"hold {gate}".encode())
        gate.wait_until_reached()
        client.config_set("maxmemory", int(used * 1.05))
        soon = {"X-Request-Timeout": "0.5"}

        def refused() -> httpx.Response | None:
            answers = [server.predict("slow", b"x", headers=soon) for _ in range(4)]
            return answers[0] if {answer.status_code for answer in answers} == {503} else None

        assert "maxmemory" in wait_for(refused, what="both gateways to look").json()["message"]
        assert httpx.post(f"{server.inference}/jobs/slow").status_code == 503
        gate.open()
        assert running.result().text == "done"
        client.config_set("maxmemory", 0)
    wait_for(lambda: drained(server))
