"""Cases: processes of marq are killed or stopped."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable

import psutil
from archives import CHILDREN, ENDS, LATER, STEPS
from http_client import Broken
from ledger import Ledger
from load import BROKEN, Load
from scale import Scale
from stage import READY_S, Stage, command, lives

GATEWAY_LIFE_S = 1.5  # the watcher does not start more often what ends at once
GATEWAY_ANSWERS_S = 0.2  # what was sent so long before the end of a gateway may still wait there


async def replicas_killed(stage: Stage, scale: Scale) -> Ledger:
    """SIGKILL of a random replica every second."""
    await stage.until_ready("square")
    kills = 0
    async with Load(stage, scale.rate) as load:
        end = time.monotonic() + scale.replicas_killed_s
        while time.monotonic() < end:
            await asyncio.sleep(1.0)
            if ready := await stage.ready_replicas("square"):
                kills += _kill(random.choice(ready))
    load.ledger.notes.insert(0, f"{kills} kills")
    return load.ledger


async def pools_killed(stage: Stage, scale: Scale) -> Ledger:
    """SIGKILL of the pool, with all its replicas, as often as it is up again."""
    return await _killed_when_up(stage, scale, scale.pools_killed_s, lambda: stage.pools("square"))


async def nodes_killed(stage: Stage, scale: Scale) -> Ledger:
    """The same of the node, with all its pools."""
    return await _killed_when_up(stage, scale, scale.nodes_killed_s, lambda: stage.nodes)


async def _killed_when_up(
    stage: Stage, scale: Scale, seconds: float, find: Callable[[], list[psutil.Process]]
) -> Ledger:
    await stage.until_ready("square")
    kills, down_s = 0, 0.0
    async with Load(stage, scale.rate) as load:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await asyncio.sleep(1.0)
            kills += _kill(random.choice(find()).pid)
            began = time.monotonic()
            await asyncio.sleep(0.5)
            await stage.until_ready("square", 1)
            down_s = max(down_s, time.monotonic() - began)
    load.ledger.notes.insert(0, f"{kills} kills, {down_s:.1f} s away at most")
    return load.ledger


async def host_killed(stage: Stage, scale: Scale) -> Ledger:
    """SIGKILL of a second node that nobody starts again: the first one takes over, by the heartbeat alone."""
    with stage.second_node() as node:
        await until(lambda: stage.replicas_of(node, "square"), "replicas of the second node")
        async with Load(stage, scale.rate) as load:
            await asyncio.sleep(1.0)
            lost = stage.replicas_of(node, "square")
            node.kill()
            await until(lambda: not any(lives(replica.pid) for replica in lost), "the end of its replicas")
            killed = time.monotonic()
            await stage.until_ready("square")
            away_s = time.monotonic() - killed
    load.ledger.notes.insert(0, f"{len(lost)} replicas lost, replaced after {away_s:.1f} s")
    return load.ledger


async def forking_killed(stage: Stage, scale: Scale) -> Ledger:
    """SIGKILL of replicas whose handler starts processes of its own: none outlives its replica."""
    kills, children = 0, stage.directory / CHILDREN
    async with stage.registered("forking"), Load(stage, scale.churn_rate, "forking", sizes=(0,)) as load:
        end = time.monotonic() + scale.forking_s
        while time.monotonic() < end:
            await asyncio.sleep(1.0)
            if ready := await stage.ready_replicas("forking"):
                kills += _kill(random.choice(ready))
        for pool in stage.pools("forking"):
            kills += _kill(pool.pid)
        await asyncio.sleep(0.5)
        await stage.until_ready("forking", LATER["forking"])
    started = [int(line) for line in children.read_text().split()]
    children.unlink()
    with contextlib.suppress(TimeoutError):
        await until(lambda: not any(map(_sleeps, started)), "the end of all children")
    if left := [pid for pid in started if _sleeps(pid)]:
        load.ledger.complain(f"{len(left)} of {len(started)} processes of handlers still run")
    load.ledger.notes.insert(0, f"{kills} kills, {len(started)} processes of handlers ended")
    return load.ledger


def _sleeps(pid: int) -> bool:
    """Whether a process that a handler started runs; its number may have been used again."""
    return lives(pid) and command(psutil.Process(pid))[-1:] == ["86400"]


async def gateways_killed(stage: Stage, scale: Scale) -> Ledger:
    """SIGKILL of a random gateway, as often as one answers: whoever waited there sees the connection end.

    On a busy machine a start may take longer than a gateway's life.
    """
    await stage.until_ready("square")
    kills = 0
    async with Load(stage, scale.rate, designed=frozenset({BROKEN})) as load:
        end = time.monotonic() + scale.gateways_killed_s
        while time.monotonic() < end:
            await asyncio.sleep(GATEWAY_LIFE_S)
            await _until_one_answers(stage)
            if gateways := stage.gateways:
                kills += _kill(random.choice(gateways).pid)
            load.excused_s = kills * GATEWAY_ANSWERS_S
    load.ledger.notes.insert(0, f"{kills} kills")
    return load.ledger


async def _until_one_answers(stage: Stage) -> None:
    """Returns when a gateway has answered a new connection, or has ended with it."""
    client = stage.client()
    with contextlib.suppress(Broken, TimeoutError):
        await client.request("GET", "/ping")
    client.close()


async def replica_stopped(stage: Stage, scale: Scale) -> Ledger:
    """SIGSTOP, later SIGCONT, of a replica: what it holds waits for it, nobody takes it away."""
    victim = random.choice(await stage.until_ready("square"))
    ledger = await _stopped(stage, scale, psutil.Process(victim))
    if any("run again" in note for note in ledger.notes):
        ledger.complain("rows were taken from a replica that was only slow")
    return ledger


async def gateway_stopped(stage: Stage, scale: Scale) -> Ledger:
    """The same of a gateway: its clients wait, those of the other one do not notice."""
    await stage.until_ready("square")
    return await _stopped(stage, scale, random.choice(stage.gateways))


async def _stopped(stage: Stage, scale: Scale, victim: psutil.Process) -> Ledger:
    async with Load(stage, scale.rate) as load:
        await asyncio.sleep(0.5)
        victim.suspend()
        try:
            await asyncio.sleep(scale.stopped_s)
        finally:
            victim.resume()
        await asyncio.sleep(0.5)
    load.ledger.notes.insert(0, f"stopped for {scale.stopped_s:g} s")
    return load.ledger


async def steps_killed(stage: Stage, scale: Scale) -> Ledger:
    """Replicas that end before and after each step of take, run, publish and acknowledge."""
    ends = Counter[str]()
    # What has been run but not published when its replica ends has no attempt behind it.
    async with Load(stage, scale.steps_rate, "steps", most_runs=len(STEPS)) as load:
        deadline = time.monotonic() + 40 * scale.steps_times
        while min(ends[step] for step in STEPS) < scale.steps_times and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            with contextlib.suppress(FileNotFoundError):
                ends = Counter((stage.directory / ENDS).read_text().splitlines())
    if missing := [step for step in STEPS if ends[step] < scale.steps_times]:
        load.ledger.complain(f"no replica ended {', '.join(missing)}: {dict(ends)}")
    load.ledger.notes.insert(0, f"{ends.total() - ends['life']} ends at {len(STEPS)} moments")
    return load.ledger


def _kill(pid: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return 1
    return 0


async def until(condition: Callable[[], object], what: str) -> None:
    """Returns when the condition is true. Raises TimeoutError."""
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain for {what}")
        await asyncio.sleep(0.1)
