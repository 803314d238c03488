"""Replicas of several processes, with PyTorch's gloo on the CPU: a linear layer cut in two."""

import psutil
import pytest
from support import wait_for

TENSOR_PARALLEL = """
import os

import torch
import torch.distributed as dist


class Handler:
    def initialize(self, context):
        dist.init_process_group("gloo")
        weight = torch.arange(12.0).reshape(4, 3)
        self.part = weight.chunk(dist.get_world_size())[dist.get_rank()]

    def handle(self, data, context):
        rows = torch.tensor([[float(number) for number in bytes(row["body"]).split()] for row in data])
        if os.environ["RANK"] == "0":
            print("answering", len(data), flush=True)
        found = rows.chunk(dist.get_world_size(), dim=1)[dist.get_rank()] @ self.part
        dist.all_reduce(found)
        return [" ".join(f"{number:g}" for number in row) for row in found.tolist()]
"""
PIPELINE = """
import os
import threading

import torch
import torch.distributed as dist


def second_stage():
    row = torch.empty(1)
    while True:
        dist.recv(row, src=0)
        dist.send(row + 1, dst=0)


class Handler:
    def initialize(self, context):
        dist.init_process_group("gloo")
        if os.environ["RANK"] == "1":
            threading.Thread(target=second_stage, daemon=True).start()

    def handle(self, data, context):
        return [self.run(float(bytes(row["body"]))) for row in data]

    def run(self, number):
        row = torch.tensor([2 * number])
        dist.send(row, dst=1)
        dist.recv(row, src=1)
        return f"{row.item():g} from rank {os.environ['RANK']}"
"""
GROUP = {"parallel_type": "tp", "parallel_level": 2, "ranks": 2}
INPUT, OUTPUT = b"1 2 3 4", b"60 70 80"


def ranks_of(pid: int) -> list[psutil.Process]:
    """The other ranks of a replica."""
    children = psutil.Process(pid).children()
    return [child for child in children if "workers.group" in child.cmdline()]


def test_all_ranks_get_the_rows_and_rank_0_answers(start, register, gateway):
    replica = start(register(**GROUP), handler=TENSOR_PARALLEL)
    assert len(ranks_of(replica.process.pid)) == 1
    gateway.send(INPUT, b"0 0 0 1")
    assert sorted(reply.body for reply in gateway.wait(2)) == [OUTPUT, b"9 10 11"]


def test_a_rank_that_fails_on_bad_rows_answers_the_next_ones(start, register, gateway):
    start(register(**GROUP), handler=TENSOR_PARALLEL)
    gateway.send(b"no numbers")
    [failed] = gateway.wait(1)
    assert failed.status == 503
    gateway.send(INPUT)
    assert gateway.wait(2)[1].body == OUTPUT


def test_a_rank_that_cannot_load_ends_the_replica(start, register):
    broken = TENSOR_PARALLEL.replace(
        "        dist.init_process_group",
        "        assert os.environ['RANK'] == '0', 'no rank 1'\n        dist.init_process_group",
    )
    replica = start(register(**GROUP), handler=broken, wait=False)
    assert replica.wait_for_exit() == 1
    assert "no rank 1" in "\n".join(replica.process.output.tail)


def test_pipeline_ranks_answer_through_rank_0_alone(start, register, gateway):
    handler = (
        "import os\n"
        "def handle(data, context):\n"
        "    return data and [os.environ['RANK'] + os.environ['WORLD_SIZE']]\n"
    )
    start(register(**{**GROUP, "parallel_type": "pp"}), handler=handler)
    gateway.send(b"x")
    assert gateway.wait(1)[0].body == b"02"


def test_the_stages_of_a_pipeline_pass_rows_on_with_gloo(start, register, gateway):
    start(register(**{**GROUP, "parallel_type": "pp"}), handler=PIPELINE)
    gateway.send(b"3", b"4")
    assert sorted(reply.body for reply in gateway.wait(2)) == [b"7 from rank 0", b"9 from rank 0"]


@pytest.mark.parametrize("kind", ["custom", "pptp"])
def test_all_ranks_of_other_kinds_get_the_rows(start, register, gateway, kind):
    start(register(**{**GROUP, "parallel_type": kind}), handler=TENSOR_PARALLEL)
    gateway.send(INPUT)
    assert gateway.wait(1)[0].body == OUTPUT


def test_custom_without_torchrun_is_one_process(start, register, gateway):
    handler = (
        "import os\ndef handle(data, context):\n    return data and [os.environ.get('WORLD_SIZE', 'alone')]\n"
    )
    replica = start(register(parallel_type="custom", parallel_level=2), handler=handler)
    gateway.send(b"x")
    assert gateway.wait(1)[0].body == b"alone"
    assert ranks_of(replica.process.pid) == []


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_the_end_of_one_rank_ends_the_group_and_its_rows_run_in_another_one(pool, ready, gateway, killed):
    pool(1, handler=TENSOR_PARALLEL, **GROUP)
    [pid] = ready(1)
    [rank] = ranks_of(pid)
    gateway.send(*[INPUT] * 50)
    (psutil.Process(pid) if killed == 0 else rank).kill()
    gateway.send(*[INPUT] * 50)
    assert {reply.body for reply in gateway.wait(100)} == {OUTPUT}
    wait_for(lambda: not psutil.pid_exists(pid) and not rank.is_running(), what="the end of the old group")
    [other] = ready(1, other_than=(pid,))
    assert len(ranks_of(other)) == 1
