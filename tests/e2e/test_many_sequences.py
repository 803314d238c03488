"""64 sequences, 10,000 requests, four replicas, one of which is killed in between."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from gate import HOLD, Gate
from support import RunningServer, wait_for

pytestmark = pytest.mark.slow

HANDLER = (
    HOLD
    + """
import os, time

class Sums:
    def initialize(self, context):
        self.sums = {}

    def handle(self, data, context):
        time.sleep(0.002)
        ids = [context.get_sequence_id(index) for index in range(len(data))]
        if len(set(ids)) < len(ids):
            raise ValueError("two requests of a sequence in one batch")
        return [self.add(context, index, row) for index, row in enumerate(data)]

    def add(self, context, index, row):
        name = context.get_sequence_id(index)
        number, *gate = bytes(row["body"]).decode().split()
        for each in gate:
            hold(each)
        self.sums[name] = self.sums.get(name, 0) + int(number)
        context.set_response_header(index, "x-pid", str(os.getpid()))
        return str(self.sums[name])
"""
)
SEQUENCES, REQUESTS, REPLICAS = 64, 10_000, 4
CONFIG = {
    "minWorkers": REPLICAS, "maxWorkers": REPLICAS, "batchSize": 8, "maxBatchDelay": 5,
    "sequenceBatching": True, "sequenceMaxIdleMSec": 600_000, "maxNumSequence": SEQUENCES,
    "maxSequenceJobQueueSize": 4,
}  # fmt: skip


@dataclass
class History:
    """The requests of one sequence: its client sends the next one when the last one is answered."""

    name: str
    pids: list[str] = field(default_factory=list)  # of the replicas that it was at
    wrong: list[str] = field(default_factory=list)
    errors: list[httpx.Response] = field(default_factory=list)
    total: int = 0

    def note(self, number: int, answer: httpx.Response) -> None:
        if answer.status_code != 200:
            self.errors.append(answer)
            self.total = 0
            return
        if not self.pids or self.pids[-1] != answer.headers["x-pid"]:
            self.pids.append(answer.headers["x-pid"])
            self.total = 0
        self.total += number
        if answer.text != str(self.total):
            self.wrong.append(f"{answer.text} instead of {self.total}")


@pytest.fixture
def server(
    make_archive: Callable[..., Path], serve_models: Callable[..., RunningServer], tmp_path_factory: Any
) -> Iterator[RunningServer]:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "many", HANDLER, config=CONFIG)
    server = serve_models(store)
    server.wait_until_ready("many", REPLICAS)
    return server


def test_every_running_sum_is_right_and_a_lost_replica_ends_only_its_own(
    server: RunningServer, gate: Gate
) -> None:
    histories = [History(f"sequence-{number}") for number in range(SEQUENCES)]
    each = REQUESTS // SEQUENCES + 1
    held = histories[0].name, each // 3  # the request that runs when its replica is killed

    def run(history: History) -> None:
        headers = {"ts_request_sequence_id": history.name}
        with httpx.Client(base_url=server.inference, timeout=60, headers=headers) as client:
            for number in range(each):
                body = f"{number} {gate}" if (history.name, number) == held else str(number)
                history.note(number, client.post("/predictions/many", content=body))

    with ThreadPoolExecutor(SEQUENCES) as pool:
        running = [pool.submit(run, history) for history in histories]
        gate.wait_until_reached()
        killed = histories[0].pids[0]
        os.kill(int(killed), signal.SIGKILL)
        for future in running:
            future.result()
    assert [history.wrong for history in histories] == [[]] * SEQUENCES
    lost = [history for history in histories if history.pids[0] == killed]
    assert len(lost) == SEQUENCES // REPLICAS
    for history in histories:
        moved = history in lost
        assert (len(history.pids), history.pids[-1] == killed) == (2 if moved else 1, False)
        assert len(history.errors) <= (1 if moved else 0)
        for answer in history.errors:
            died, ended = "Worker died.", "The sequence has ended, because replica "
            assert answer.json()["message"].startswith((died, ended))
    # The client of the request that ran was told
    assert histories[0].errors
    wait_for(lambda: len({worker["pid"] for worker in server.workers("many")}) == REPLICAS)
