"""Case: steady load for long, while memory and keys are watched."""

import asyncio
import statistics
import time

import psutil
from ledger import Ledger
from load import Load
from scale import Scale
from stage import Stage

WARM_UP = 2 / 3  # of the time: in ten minutes the log of the ends of jobs has its 100,000 entries by then
LONG_S = 300  # a slope over less says little
MOST_KB_PER_MIN = 1024


async def soak(stage: Stage, scale: Scale) -> Ledger:
    """Tells by how much each process grows, and what is left in Redis."""
    await stage.until_ready("square")
    processes, samples = _processes(stage), list[tuple[float, dict[str, int]]]()
    async with Load(stage, scale.soak_rate) as load:
        began = time.monotonic()
        while (elapsed := time.monotonic() - began) < scale.soak_s:
            if elapsed > scale.soak_s * WARM_UP:
                samples.append((elapsed / 60, {name: _kb(each) for name, each in processes.items()}))
            await asyncio.sleep(min(1.0, scale.soak_s / 20))
    ledger, slopes = load.ledger, dict[str, float]()
    for name in processes:
        minutes, kilobytes = [minute for minute, _ in samples], [sizes[name] for _, sizes in samples]
        slopes[name] = slope = statistics.linear_regression(minutes, kilobytes).slope
        ledger.details.append(f"{name}: {kilobytes[-1] / 1024:.0f} MB, {slope:+.0f} KB/min")
        if slope > MOST_KB_PER_MIN and scale.soak_s >= LONG_S:
            ledger.complain(f"{name} grows by {slope:.0f} KB a minute")
    steepest = max(slopes, key=lambda name: slopes[name])
    ledger.notes.append(f"largest slope: {slopes[steepest]:+.0f} KB/min ({steepest})")
    return ledger


async def what_is_left(stage: Stage, scale: Scale) -> list[str]:
    """Lines about what a load whose job records have expired has left in Redis."""
    await asyncio.sleep(scale.job_ttl_s + 1)
    kinds = stage.kinds_of_keys()
    return [f"{number} x {kind}" for kind, number in sorted(kinds.items())]


def leaks(stage: Stage) -> list[str]:
    """Kinds of keys that should be gone, or that are more than there are readers for them."""
    kinds = stage.kinds_of_keys()
    leaked = [kind for kind in kinds if kind.endswith((":job:*", ":parts:*"))]
    return leaked + ["replies"] * (kinds["marq:replies:*"] > len(stage.gateways))


def _processes(stage: Stage) -> dict[str, psutil.Process]:
    found = {
        "supervisor": psutil.Process(stage.server.process.pid),
        **{f"gateway {number}": process for number, process in enumerate(stage.gateways)},
        "node": stage.nodes[0],
        "Redis": stage.redis_process,
        "pool": stage.pools("square")[0],
    }
    for number, process in enumerate(found["pool"].children()):
        found[f"replica {number}"] = process
    return found


def _kb(process: psutil.Process) -> int:
    return int(process.memory_info().rss // 1024)
