"""The limits of sequences, over several gateways."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from gate import HOLD, Gate
from support import RunningServer, wait_for

pytestmark = pytest.mark.slow

HANDLER = f"""{HOLD}
def handle(data, context):
    for row in data or ():
        if text := bytes(row["body"]).decode():
            hold(text)
    return data and ["done"] * len(data)
"""
GATEWAYS, OPEN, WAITING = 2, 6, 3
CONFIG = {
    "minWorkers": 1, "maxWorkers": 1, "batchSize": 1, "sequenceBatching": True,
    "sequenceMaxIdleMSec": 600_000, "maxNumSequence": OPEN, "maxSequenceJobQueueSize": WAITING,
}  # fmt: skip


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., RunningServer],
    make_archive: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "few", HANDLER, CONFIG)
    server = start_server(store, gateway_workers=GATEWAYS)
    server.wait_until_ready("few")
    return server


@pytest.fixture(scope="module")
def clients(server: RunningServer) -> Iterator[list[httpx.Client]]:
    """Clients with a connection each; every gateway has some of them."""
    port = int(server.inference.rpartition(":")[2])
    gateways = [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if "gateway" in child.cmdline()
    ]
    assert len(gateways) == GATEWAYS

    def connections(gateway: psutil.Process) -> int:
        found = gateway.net_connections()
        return sum(each.laddr[1] == port and each.status == psutil.CONN_ESTABLISHED for each in found)

    with ExitStack() as stack:
        found: list[httpx.Client] = []

        def are_everywhere() -> bool:
            for _ in range(10):
                found.append(stack.enter_context(httpx.Client(base_url=server.inference, timeout=60)))
                found[-1].get("/ping").raise_for_status()
            return min(map(connections, gateways)) > 2 * WAITING

        wait_for(are_everywhere, what="connections to each gateway")
        yield found


def send(client: httpx.Client, sequence: str, body: str = "") -> int:
    headers = {"ts_request_sequence_id": sequence}
    return client.post("/predictions/few", content=body, headers=headers).status_code


def test_a_sequence_has_no_more_waiting_requests_than_it_may(clients: list[httpx.Client], gate: Gate) -> None:
    first, *others = clients
    with ThreadPoolExecutor(len(clients)) as pool:
        running = pool.submit(send, first, "one", str(gate))
        gate.wait_until_reached()
        sent = [pool.submit(send, client, "one") for client in others]
        wait_for(lambda: sum(each.done() for each in sent) == len(sent) - WAITING, what="the refusals")
        gate.open()
        assert Counter(each.result() for each in sent) == {200: WAITING, 503: len(sent) - WAITING}
        assert running.result() == 200


def test_no_more_sequences_are_open_than_may_be(clients: list[httpx.Client]) -> None:
    """One is open from the test before."""
    with ThreadPoolExecutor(len(clients)) as pool:
        names = [f"sequence-{number}" for number in range(len(clients))]
        answers = Counter(pool.map(send, clients, names))
    assert answers == {200: OPEN - 1, 503: len(clients) - OPEN + 1}
