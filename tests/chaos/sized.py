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
from scale import Scale
from stage import Stage

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
    load.ledger.notes.insert(0, f"{told} killed; files in {stage.payloads}")
    return load.ledger


def folders(stage: Stage) -> list[str]:
    """Those of processes that keep payload files; none may be there when the server has ended."""
    return [str(path) for path in stage.payloads.iterdir()] if stage.payloads.exists() else []
