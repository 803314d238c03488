"""What needs a GPU: `make test-gpu`. Without one, everything here is skipped."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis
from support import RunningServer, wait_for

from marq import gpus
from marq.registry.sizes import hosts

GPUS = len(gpus.visible())
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="this host has no GPU")]

TELL = """
import torch


class Handler:
    def initialize(self, context):
        self.device = torch.device("cuda", context.system_properties["gpu_id"])
        self.weight = torch.ones(4, device=self.device)

    def handle(self, data, context):
        return [f"{self.weight.device} {self.weight.sum().item():g}" for _ in data]
"""
GREEDY = """
import torch

BYTES = 1 << 50  # more than any GPU has


def handle(data, context):
    if data is None:
        return None
    if len(data) > 2:
        torch.empty(BYTES, dtype=torch.uint8, device="cuda")
    return [str(len(data)) for _ in data]
"""
TENSOR_PARALLEL = """
import torch
import torch.distributed as dist


class Handler:
    def initialize(self, context):
        self.device = torch.device("cuda", context.system_properties["gpu_id"])
        dist.init_process_group("nccl")
        self.part = torch.arange(12.0).reshape(4, 3).chunk(2)[dist.get_rank()].to(self.device)

    def handle(self, data, context):
        rows = torch.tensor([[float(n) for n in bytes(row["body"]).split()] for row in data])
        found = rows.chunk(2, dim=1)[dist.get_rank()].to(self.device) @ self.part
        dist.all_reduce(found)
        return [" ".join(f"{number:g}" for number in row) for row in found.tolist()]
"""


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    one = {"minWorkers": 1, "maxWorkers": 1, "deviceType": "gpu"}
    make_archive(store, "tell", TELL, one)
    make_archive(store, "greedy", GREEDY, {**one, "batchSize": 8, "maxBatchDelay": 2000, "batching": "fixed"})
    make_archive(
        store, "many", TELL, {**one, "minWorkers": GPUS + 1, "maxWorkers": GPUS + 1, "replicasPerDevice": 1}
    )
    if GPUS > 1:
        group = {"parallelType": "tp", "torchrun": {"nproc-per-node": 2}}
        make_archive(store, "parallel", TENSOR_PARALLEL, {**one, **group})
    running: RunningServer = serve_models(store)
    return running


def test_the_node_publishes_its_gpus_with_their_memory(server):
    with redis.Redis.from_url(server.redis_url, protocol=2) as client:
        there = wait_for(lambda: hosts.read(client), what="the node")
    [host] = there.values()
    assert (host.kind, len(host.devices)) == ("cuda", GPUS)
    assert all(device.memory > 1 << 30 and device.name for device in host.devices)


def test_a_replica_computes_on_its_gpu(server):
    server.wait_until_ready("tell")
    answer = server.predict("tell", b"x").text
    [worker] = server.workers("tell")
    assert answer == f"{worker['device']} 4"


def test_replicas_beyond_the_limit_of_each_gpu_are_named_and_not_started(server):
    server.wait_until_ready("many", GPUS)
    [described] = httpx.get(f"{server.management}/models/many").json()
    assert len(described["workers"]) == GPUS
    assert {worker["device"] for worker in described["workers"]} == {f"cuda:{n}" for n in range(GPUS)}
    assert f"1 of {GPUS + 1} replicas have no device" in "\n".join(described["notices"])


def test_a_batch_that_does_not_fit_runs_in_halves(server):
    server.wait_until_ready("greedy")
    with ThreadPoolExecutor(8) as executor:
        answers = [executor.submit(server.predict, "greedy", b"x") for _ in range(8)]
        assert {answer.result().status_code for answer in answers} == {200}
    assert server.workers("greedy")[0]["fittingBatchSize"] <= 4


@pytest.mark.skipif(GPUS < 2, reason="two processes of NCCL need two GPUs")
def test_a_layer_that_is_cut_in_two_runs_on_two_gpus(server):
    server.wait_until_ready("parallel")
    assert server.predict("parallel", b"1 2 3 4").text == "60 70 80"
