"""Sequence batching over HTTP: each sequence has a running sum, which only one replica knows."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from gate import HOLD, Gate
from support import RunningServer, wait_for

from marq import keys

HANDLER = (
    f"{HOLD}\nimport os\n"
    + """

class Sums:
    def initialize(self, context):
        self.sums = {}

    def handle(self, data, context):
        ids = [context.get_sequence_id(index) for index in range(len(data))]
        if len(set(ids)) < len(ids):
            raise ValueError("two requests of a sequence in one batch")
        return [self.answer(context, index, row) for index, row in enumerate(data)]

    def answer(self, context, index, row):
        text, name = bytes(row["body"]).decode(), context.get_sequence_id(index)
        if text.startswith("/"):
            hold(text)
            text = "0"
        if text == "end":
            context.set_response_header(index, context.header_key_sequence_end, name)
            text = "0"
        self.sums[name] = self.sums.get(name, 0) + int(text)
        context.set_response_header(index, "x-pid", str(os.getpid()))
        context.set_response_header(index, "x-sequence", name)
        start = context.get_request_header(index, context.header_key_sequence_start)
        context.set_response_header(index, "x-start", str(start))
        return str(self.sums[name])
"""
)
CONFIG = {
    "minWorkers": 2, "maxWorkers": 2, "batchSize": 2, "maxBatchDelay": 10, "sequenceBatching": True,
    "sequenceMaxIdleMSec": 600_000, "maxNumSequence": 40, "maxSequenceJobQueueSize": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(
    make_archive: Callable[..., Path], serve_models: Callable[..., RunningServer], tmp_path_factory: Any
) -> Iterator[RunningServer]:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "sums", HANDLER, config=CONFIG)
    server = serve_models(store)
    server.wait_until_ready("sums", 2)
    return server


def add(server: RunningServer, sequence: str, body: str, **headers: str) -> httpx.Response:
    return server.predict("sums", body.encode(), headers={"ts_request_sequence_id": sequence, **headers})


def at_seats(server: RunningServer) -> int:
    """How many requests wait or run."""
    with redis.Redis.from_url(server.redis_url) as client:
        seats = client.hkeys(keys.seat_owners("sums", "1.0"))
        return sum(client.xlen(keys.seat_lane("sums", "1.0", seat.decode())) for seat in seats)


def test_interleaved_sequences_have_their_own_sums(server: RunningServer) -> None:
    def run(name: str) -> tuple[list[str], set[str]]:
        answers = [add(server, name, str(number)) for number in (1, 2, 3, 4)]
        answers.append(add(server, name, "0", ts_request_sequence_end="true"))
        return [answer.text for answer in answers], {answer.headers["x-pid"] for answer in answers}

    names = [f"interleaved-{number}" for number in range(20)]
    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(run, names))
    assert [sums for sums, _ in found] == [["1", "3", "6", "10", "10"]] * len(names)
    assert all(len(pids) == 1 for _, pids in found)
    assert len({pid for _, pids in found for pid in pids}) == 2


def test_a_request_without_an_id_begins_a_sequence_whose_id_the_handler_gets(server: RunningServer) -> None:
    first = server.predict("sums", b"5")
    name = first.headers["x-sequence"]
    assert (first.text, name[:7], first.headers["x-start"]) == ("5", "ts-seq-", "true")
    second = add(server, name, "6", ts_request_sequence_end="true")
    assert (second.text, second.headers["x-start"]) == ("11", "None")


def test_a_job_belongs_to_its_sequence(server: RunningServer) -> None:
    first = add(server, "job", "1")
    job = server.submit("sums", b"2", headers={"ts_request_sequence_id": "job"})
    result = server.result(job)
    assert (result.text, result.headers["x-pid"]) == ("3", first.headers["x-pid"])
    assert add(server, "job", "3", ts_request_sequence_end="true").text == "6"


def test_the_handler_ends_a_sequence_with_a_response_header(server: RunningServer) -> None:
    for number in range(CONFIG["maxNumSequence"] + 5):  # type: ignore[operator]
        assert add(server, f"ended-{number}", "end").status_code == 200


def test_the_end_of_a_replica_is_told_to_its_sequences_and_concerns_no_other(
    server: RunningServer, gate: Gate
) -> None:
    pids = {name: add(server, name, "1").headers["x-pid"] for name in ("here", "near", "there")}
    assert pids["here"] == pids["there"] != pids["near"]  # seats get equally many
    with ThreadPoolExecutor(4) as pool:
        # Given a request that runs, and two that wait behind it
        running = pool.submit(add, server, "here", str(gate))
        gate.wait_until_reached()
        waiting = [pool.submit(add, server, "here", "1"), pool.submit(add, server, "there", "1")]
        wait_for(lambda: at_seats(server) == 3)
        # When the replica is killed
        os.kill(int(pids["here"]), signal.SIGKILL)
        # Then all are answered with the reason, although the gate is still closed
        died, *ended = [future.result() for future in (running, *waiting)]
    assert (died.status_code, died.json()["message"].splitlines()[0]) == (500, "Worker died.")
    for answer in ended:
        assert answer.status_code == 503
        assert "The sequence has ended, because replica " in answer.json()["message"]
        assert "ended with signal 9" in answer.json()["message"]
    # And the next requests begin new sequences, while the other one goes on
    for name, total in (("near", "2"), ("here", "1"), ("there", "1")):
        assert add(server, name, "1", ts_request_sequence_end="true").text == total
    server.wait_until_ready("sums", 2)


def test_a_reload_waits_for_open_sequences(server: RunningServer) -> None:
    before = add(server, "reload", "1")
    old = before.headers["x-pid"]
    httpx.post(f"{server.management}/models/sums/reload", timeout=60).raise_for_status()

    def replaced() -> bool:
        found = add(server, "new", "0", ts_request_sequence_end="true").headers["x-pid"]
        return found not in olds

    olds = {str(worker["pid"]) for worker in server.workers("sums")} | {old}
    wait_for(replaced, what="a new replica")
    # The open sequence is still where it was
    after = add(server, "reload", "2")
    assert (after.text, after.headers["x-pid"]) == ("3", old)
    # When it ends, its replica ends
    add(server, "reload", "3", ts_request_sequence_end="true")
    wait_for(lambda: old not in {str(worker["pid"]) for worker in server.workers("sums")}, what="its end")
    assert add(server, "reload", "1", ts_request_sequence_end="true").text == "1"
