"""All cases by name, and how one of them is run."""

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote

import archives
import burst
import crashes
import hostile
import redis_cases
import soak
from ledger import Ledger
from redis.connection import parse_url
from scale import Scale
from stage import Stage

from marq.host.embedded_redis import EmbeddedServer

Case = Callable[[Stage, Scale], Awaitable[Ledger]]
CASES: dict[str, Case] = {
    "replicas killed": crashes.replicas_killed,
    "pools killed": crashes.pools_killed,
    "nodes killed": crashes.nodes_killed,
    "gateways killed": crashes.gateways_killed,
    "replica stopped": crashes.replica_stopped,
    "gateway stopped": crashes.gateway_stopped,
    "replicas killed at each step": crashes.steps_killed,
    "Redis killed": redis_cases.redis_killed,
    "Redis paused": redis_cases.redis_paused,
    "Redis full": redis_cases.redis_full,
    "poison, batch size 32": hostile.poison,
    "hostile entries": hostile.hostile_entries,
    "50 MB bodies": hostile.large_bodies,
    "idle connections": hostile.idle_connections,
    "slow clients": hostile.slow_clients,
}
LONGEST_S = 1200.0
LONG: dict[str, Case] = {
    "host killed": crashes.host_killed
}  # without a short version: a heartbeat takes 10 s
CUT, BURST, SOAK = "connections to Redis cut", "burst", "soak"


async def run(name: str, case: Case, stage: Stage, scale: Scale) -> Ledger:
    """One case; whatever it raises is a problem of its row."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(LONGEST_S):
            ledger = await case(stage, scale)
    except Exception as error:
        ledger = Ledger()
        ledger.complain(f"the case failed: {error!r}")
    ledger.case, ledger.seconds = name, time.monotonic() - began
    return ledger


async def run_cut(directory: Path, scale: Scale) -> Ledger:
    """The case with a proxy between marq and its Redis."""
    async with _proxied(directory) as (stage, proxy):
        return await run(CUT, functools.partial(redis_cases.connections_cut, proxy=proxy), stage, scale)


@contextlib.asynccontextmanager
async def _proxied(directory: Path) -> AsyncIterator[tuple[Stage, redis_cases.CuttingProxy]]:
    valkey = EmbeddedServer(directory / "redis")
    valkey.start()
    try:
        options = parse_url(valkey.url)
        proxy = redis_cases.CuttingProxy(unquote(options["path"]))
        async with proxy.listening() as port:
            url = f"redis://:{options['password']}@127.0.0.1:{port}/0"
            stage = await asyncio.to_thread(Stage.start, directory, url, valkey.url, ["square"])
            try:
                yield stage, proxy
            finally:
                await asyncio.to_thread(stage.server.stop)
    finally:
        valkey.stop()


async def run_burst(directory: Path, scale: Scale) -> Ledger:
    """The burst, with a limit of jobs that others must not come to."""
    stage = await asyncio.to_thread(
        Stage.start, directory, models=["limited"], max_queued_jobs=archives.JOB_LIMIT
    )
    try:
        return await run(BURST, burst.burst, stage, scale)
    finally:
        await asyncio.to_thread(stage.server.stop)


async def run_soak(directory: Path, scale: Scale) -> Ledger:
    """The soak, and what it leaves in Redis."""
    stage = await asyncio.to_thread(
        Stage.start, directory, models=["square"], job_result_ttl_s=scale.job_ttl_s
    )
    try:
        ledger = await run(SOAK, soak.soak, stage, scale)
        ledger.details += [f"left in Redis: {line}" for line in await soak.what_is_left(stage, scale)]
        if leaked := soak.leaks(stage):
            ledger.complain(f"leaked keys: {leaked}")
        return ledger
    finally:
        await asyncio.to_thread(stage.server.stop)


ALONE = {CUT: run_cut, BURST: run_burst, SOAK: run_soak}  # each with a server of its own
