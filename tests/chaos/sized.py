"""Case: each kind of process is killed while bodies and answers of all sizes are on their way."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle

import psutil
from crashes import GATEWAY_ANSWERS_S
from ledger import Ledger
from load import BROKEN, Load
from remains import SETTLE_S
from scale import Scale
from stage import Stage

from marq import keys
from marq.payloads.job_files import JobFiles
from marq.queue.job_records import SUCCEEDED

THRESHOLD = 65_536  # a larger body or answer is a file
SIZES = (0, THRESHOLD, THRESHOLD + 1, 1_000_000, 1000, THRESHOLD - 1)
JOB_SIZES = (0, THRESHOLD, THRESHOLD + 1, 200_000)
EVERY_S = 2.0


async def killed(stage: Stage, scale: Scale) -> Ledger:
    """A replica, a gateway, a pool, a node, again and again: no answer is lost, no file stays."""
    await stage.until_ready("square")
    kills = Counter[str]()
    victims: dict[str, Callable[[], list[psutil.Process]]] = {
        "replicas": lambda: [each for node in stage.nodes for each in stage.replicas_of(node, "square")],
        "gateways": lambda: stage.gateways,
        "pools": lambda: stage.pools("square"),
        "nodes": lambda: stage.nodes,
    }
    async with Load(
        stage, scale.churn_rate, designed=frozenset({BROKEN}), sizes=SIZES, job_sizes=JOB_SIZES
    ) as load:
        end = time.monotonic() + scale.sized_s
        for kind in cycle(victims):
            if time.monotonic() > end:
                break
            await asyncio.sleep(min(EVERY_S, scale.sized_s / len(victims)))
            await stage.until_ready("square", 1)
            if found := victims[kind]():
                if kind == "gateways":  # its clients are those that wait since pools were killed, too
                    load.excuse_all_in_flight()
                    load.excused_s += GATEWAY_ANSWERS_S
                random.choice(found).kill()
                kills[kind] += 1
        await stage.until_ready("square")
    told = ", ".join(f"{number} {kind}" for kind, number in kills.items())
    for ref in await _left_of_jobs(stage):
        load.ledger.complain(f"the file {ref} of a job is left")
    load.ledger.notes.insert(0, f"{told} killed; files in {stage.payloads}")
    return load.ledger


async def _left_of_jobs(stage: Stage) -> list[str]:
    """The files that jobs do not need, although they have succeeded and there was time to remove them."""
    deadline = time.monotonic() + SETTLE_S
    while left := await asyncio.to_thread(_unneeded, stage):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    return left


def _unneeded(stage: Stage) -> list[str]:
    """The files of jobs that have succeeded, but for their answers."""
    left = []
    with stage.redis() as client:
        for directory in client.hvals(keys.JOB_STORES):
            for file in JobFiles.found(directory).all():
                record = keys.job(file.model, file.request_id)
                state, answer = client.hmget(record, "state", "body_ref")
                if state == SUCCEEDED.encode() and answer != file.ref:
                    left.append(file.ref.decode())
    return left


def folders(stage: Stage) -> list[str]:
    """Those of processes that keep payload files; none may be there when the server has ended."""
    return [str(path) for path in stage.payloads.iterdir()] if stage.payloads.exists() else []
