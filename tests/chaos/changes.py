"""Cases: models are registered, scaled and unregistered while others, or their own clients, go on."""

import asyncio
import time

import churn
from ledger import Ledger
from load import Load
from scale import Scale
from stage import READY_S, Stage

AGREE_S = 150.0  # a replica that loads is not interrupted
ABSURD = 5000
SOME = 8  # of them have been started


async def churned(stage: Stage, scale: Scale) -> Ledger:
    """Fifty changes of two models at once, again and again; the clients of a third one do not notice."""
    unexpected: list[str] = []
    async with Load(stage, scale.churn_rate, most_runs=1) as load:
        for seed in range(scale.churn_rounds):
            unexpected += await asyncio.to_thread(churn.churn, stage.server, seed)
        differences = await _until_agreed(stage)
    for problem in [*unexpected, *differences]:
        load.ledger.complain(problem)
    await asyncio.to_thread(churn.clear, stage.server)
    for key in await stage.until_no_keys_of(*churn.NAMES):
        load.ledger.complain(f"{key} is left of a model that was unregistered")
    load.ledger.notes.insert(0, f"{scale.churn_rounds * churn.AT_ONCE} changes")
    return load.ledger


async def _until_agreed(stage: Stage) -> list[str]:
    deadline = time.monotonic() + AGREE_S
    while differences := await asyncio.to_thread(churn.disagreements, stage.server):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    return differences


async def oversized(stage: Stage, scale: Scale) -> Ledger:
    """A typing error in a size, mended by the next request."""
    async with Load(stage, scale.churn_rate, most_runs=1) as load:
        await stage.manage("PUT", f"/models/digest?min_worker={ABSURD}&force=true")
        async with asyncio.timeout(READY_S):
            while stage.number_of_replicas("digest") < SOME:
                await asyncio.sleep(0.1)
        began = time.monotonic()
        await stage.manage("PUT", "/models/digest?min_worker=1&max_worker=1")
        async with asyncio.timeout(READY_S):
            while stage.number_of_replicas("digest") > 1:
                await asyncio.sleep(0.1)
        took_s = time.monotonic() - began
        await stage.until_ready("digest")
    load.ledger.notes.insert(0, f"from {ABSURD:,} to 1 in {took_s:.1f} s")
    return load.ledger
