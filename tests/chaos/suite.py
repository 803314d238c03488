"""All cases by name, and how one of them is run."""

import asyncio
import contextlib
import dataclasses
import functools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from pathlib import Path
from urllib.parse import unquote

import archives
import burst
import changes
import crashes
import disk_full
import durable
import files_away
import hostile
import pairs
import read_only
import redis_cases
import removals
import sized
import soak
from ledger import Ledger
from redis.connection import parse_url
from remains import Remains, left_behind
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
    "forking handlers killed": crashes.forking_killed,
    "scoreboards emptied": files_away.scoreboards_emptied,
    "Redis killed": redis_cases.redis_killed,
    "Redis paused": redis_cases.redis_paused,
    "Redis full": redis_cases.redis_full,
    "poison, batch size 32": hostile.poison,
    "hostile entries": hostile.hostile_entries,
    "50 MB bodies": hostile.large_bodies,
    "idle connections": hostile.idle_connections,
    "slow clients": hostile.slow_clients,
    "scripts flushed": redis_cases.scripts_flushed,
    "5,000 replicas": changes.oversized,
    "50 changes at once": changes.churned,
    "model unregistered": removals.unregistered,
    "Redis emptied": redis_cases.flushed,
}
LONGEST_S = 1200.0
SHARED_MEMORY = Path("/dev/shm")
LONG: dict[str, Case] = {
    "host killed": crashes.host_killed
}  # without a short version: a heartbeat takes 10 s
CUT, BURST, SOAK = "connections to Redis cut", "burst", "soak"
FILES, PAIR, SIZED = "files away", "two servers", "bodies of all sizes"
DISK, READ_ONLY = "disk full", "read-only disk"
DURABLE: dict[str, Case] = {
    "webhooks": durable.webhooks,
    "groups": durable.groups,
    "schedule": durable.schedule,
    "batch files": durable.batch_files,
    "bridge": durable.bridge,
}  # of one server, see `start_durable`
ENDS_GATEWAYS = frozenset({"gateways killed", SIZED, *DURABLE})


async def run(name: str, case: Case, stage: Stage, scale: Scale) -> Ledger:
    """One case; whatever it raises, and whatever it leaves behind, is a problem of its row."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(LONGEST_S):
            before = await asyncio.to_thread(Remains.of, stage)
            ledger = await case(stage, scale)
            for problem in await left_behind(stage, before, name not in ENDS_GATEWAYS):
                ledger.complain(problem)
    except Exception as error:
        ledger = Ledger()
        ledger.complain(f"the case failed: {error!r}")
    ledger.case, ledger.seconds = name, time.monotonic() - began
    return ledger


def start_durable(directory: Path) -> Stage:
    """A server whose Redis loses nothing, with a bridge, which may send webhooks to this host."""
    stage = Stage.start(directory, models=[], webhook_allowed_hosts="127.0.0.1", celery_bridge=True)
    with stage.redis() as client:
        client.config_set("appendfsync", "always")
        client.config_rewrite()
    return stage


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


async def run_files(directory: Path, scale: Scale) -> Ledger:
    """The faults of files, with the tokens that one of them has."""
    stage = await asyncio.to_thread(Stage.start, directory, models=["square"], tokens=True)
    try:
        await stage.until_ready("square")
        return await run(FILES, files_away.files_away, stage, scale)
    finally:
        await asyncio.to_thread(stage.server.stop)


async def run_disk(directory: Path, scale: Scale) -> Ledger:
    """The state directory is a small file system of its own, where this user may mount one."""
    with disk_full.small_disk(directory / "state") as mounted:
        if not mounted:
            return Ledger(DISK, notes=["not tried: this user may not mount a file system"])
        stage = await asyncio.to_thread(Stage.start, directory, models=["square"])
        try:
            return await run(DISK, disk_full.disk_full, stage, scale)
        finally:
            await asyncio.to_thread(stage.server.stop)


async def run_read_only(directory: Path, scale: Scale) -> Ledger:
    """The server is started again when the file system has been repaired."""
    with read_only.fragile_disk(directory / "state") as disk:
        if disk is None:
            return Ledger(READ_ONLY, notes=["not tried: this user or kernel has no file system to break"])
        stage = await asyncio.to_thread(Stage.start, directory, models=["square"])
        try:
            ledger, jobs = await read_only.broken(stage, scale, disk)
        finally:
            await asyncio.to_thread(stage.server.stop)
        await asyncio.to_thread(disk.repair)
        stage = await asyncio.to_thread(Stage.start, directory, models=["square"], store=directory / "store")
        try:
            case = functools.partial(read_only.fetched, jobs=jobs)
            ledger.add(await run(READ_ONLY, case, stage, scale))
        finally:
            await asyncio.to_thread(stage.server.stop)
    ledger.case = READ_ONLY
    return ledger


async def run_pair(directory: Path, scale: Scale) -> Ledger:
    """The second server has the archives and the directory of payload files in common with the first."""
    (directory / "second").mkdir()
    first = await asyncio.to_thread(Stage.start, directory, models=["square"])
    try:
        started = await asyncio.to_thread(
            Stage.start,
            directory / "second",
            first.redis_url,
            models=["square"],
            store=directory / "store",
            payload_dir=first.payloads,
        )
        second = dataclasses.replace(started, numbers=first.numbers)
        try:
            await pairs.until_shared(first, second)
            return await run(PAIR, functools.partial(pairs.both, second=second), first, scale)
        finally:
            await asyncio.to_thread(second.server.stop)
    finally:
        await asyncio.to_thread(first.server.stop)


async def run_sized(directory: Path, scale: Scale) -> Ledger:
    """Once with files in the state directory, once with files in shared memory."""
    ledger = Ledger(SIZED)
    with tempfile.TemporaryDirectory(prefix="marq-chaos-", dir=_shared_memory()) as memory:
        places = {"disk": directory / "disk/state/payloads", "memory": Path(memory) / "payloads"}
        for name, place in islice(places.items(), scale.sized_places):
            (directory / name).mkdir()
            stage = await asyncio.to_thread(
                Stage.start, directory / name, models=["square"], payload_dir=place
            )
            try:
                ledger.add(await run(SIZED, sized.killed, stage, scale))
            finally:
                await asyncio.to_thread(stage.server.stop)
            for folder in sized.folders(stage):
                ledger.complain(f"{folder} is left of a server that has ended")
    return ledger


def _shared_memory() -> Path | None:
    """None, which is the directory of temporary files, where a host has none."""
    return SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None


ALONE = {
    CUT: run_cut,
    BURST: run_burst,
    FILES: run_files,
    DISK: run_disk,
    READ_ONLY: run_read_only,
    PAIR: run_pair,
    SIZED: run_sized,
    SOAK: run_soak,
}  # each with a server of its own
