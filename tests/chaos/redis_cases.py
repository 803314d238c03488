"""Cases: Redis is killed, stopped, full, emptied, or cut off in the midst of a command."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import psutil
import redis
from crashes import until
from ledger import Ledger
from load import JOB, SIZES, Load
from scale import Scale
from stage import Stage, lives

from marq import keys

REFUSED = frozenset({"503"})  # what a gateway answers while it has no Redis
CUT_S = 0.1  # of the load that one cut may break


async def redis_killed(stage: Stage, scale: Scale) -> Ledger:
    """SIGKILL of Redis under load; the watcher starts it again, with its append-only file."""
    await stage.until_ready("square")
    with stage.redis() as client:
        client.config_set("appendfsync", "always")  # with `everysec` the last second may be lost
        client.config_rewrite()
    kills = 0
    async with Load(stage, scale.rate, designed=REFUSED) as load:
        while kills < scale.redis_kills:
            await asyncio.sleep(2.0 if scale.redis_kills > 1 else 0.5)
            with load.excused():
                await kill(stage.redis_process)
                kills += 1
                await until_back(stage)
        await asyncio.sleep(0.5)
    with stage.redis() as client:
        client.config_set("appendfsync", "everysec")
        client.config_rewrite()
    load.ledger.notes.insert(0, f"{kills} kills")
    return load.ledger


async def redis_paused(stage: Stage, scale: Scale) -> Ledger:
    """SIGSTOP of Redis for longer than a heartbeat may take: nobody is taken for dead."""
    await stage.until_ready("square")
    async with Load(stage, scale.rate) as load:
        await asyncio.sleep(0.5)
        victim = stage.redis_process
        with load.excused():
            victim.suspend()
            try:
                await asyncio.sleep(scale.redis_paused_s)
            finally:
                victim.resume()
        await asyncio.sleep(scale.redis_paused_s / 3)
    load.ledger.notes.insert(0, f"paused for {scale.redis_paused_s:g} s")
    return load.ledger


async def redis_full(stage: Stage, scale: Scale) -> Ledger:
    """`maxmemory` nearly reached, then reached, then raised: refusals first, and no answer is lost."""
    await stage.until_ready("square")
    with stage.redis() as client:
        limit = client.config_get("maxmemory")["maxmemory"]
        async with Load(stage, scale.rate, designed=REFUSED) as load:
            await asyncio.sleep(0.3)
            with load.excused():
                try:
                    for share in (1.05, 0.9):
                        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * share))
                        await asyncio.sleep(scale.redis_full_s / 2)
                finally:
                    client.config_set("maxmemory", limit)
            await asyncio.sleep(scale.redis_full_s / 2)
    if not load.ledger.refused:
        load.ledger.complain("nothing was refused")
    return load.ledger


async def flushed(stage: Stage, scale: Scale) -> Ledger:
    """FLUSHALL under load: only what was queued at that moment is lost, and its clients hear of it."""
    designed = frozenset({"503", "504", f"{JOB} 404"})
    timeout_s, lanes = scale.flush_timeout_s, keys.lanes("square", "1.0")
    sizes = (0,) if timeout_s else SIZES  # gateways look for files of lost requests every 20 s
    options: dict[str, Any] = {"timeout_s": timeout_s, "sizes": sizes, "letters": True}  # older ones are gone
    async with Load(stage, scale.rate, designed=designed, **options) as load:
        for _ in range(scale.flushes):
            await asyncio.sleep(1.0)
            load.excuse_all_in_flight()
            with load.excused(), stage.redis() as client:
                client.flushall()
                await until(lambda: client.exists(*lanes) == len(lanes), "the lanes")
            await stage.until_ready("square")
        await asyncio.sleep(1.0)
    load.ledger.notes.insert(0, f"flushed {scale.flushes} times")
    return load.ledger


async def scripts_flushed(stage: Stage, scale: Scale) -> Ledger:
    """SCRIPT FLUSH every 100 ms: nobody notices."""
    flushes, end = 0, time.monotonic() + scale.script_flush_s
    with stage.redis() as client:
        async with Load(stage, scale.rate, most_runs=1) as load:
            while time.monotonic() < end:
                await asyncio.to_thread(client.script_flush)
                flushes += 1
                await asyncio.sleep(0.1)
    load.ledger.notes.insert(0, f"{flushes} times")
    return load.ledger


async def connections_cut(stage: Stage, scale: Scale, proxy: "CuttingProxy") -> Ledger:
    """Connections to Redis that end in the midst of a command or of a reply."""
    await stage.until_ready("square")
    async with Load(stage, scale.rate, designed=REFUSED) as load:
        end, proxy.cuts = time.monotonic() + scale.cuts_s, 0
        while time.monotonic() < end:
            await asyncio.sleep(0.3)
            proxy.cut_next = True
        proxy.cut_next = False
        load.excused_s = proxy.cuts * CUT_S
        await asyncio.sleep(0.5)
    load.ledger.notes.insert(0, f"{proxy.cuts} cuts")
    return load.ledger


async def kill(process: psutil.Process) -> None:
    process.kill()
    while lives(process.pid):
        await asyncio.sleep(0.01)


async def until_back(stage: Stage, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while True:
            with contextlib.suppress(redis.RedisError, OSError), stage.redis() as client:
                client.ping()
                return
            await asyncio.sleep(0.05)


class CuttingProxy:
    """TCP in front of Redis's Unix socket. `cut_next`: a connection ends in mid-data."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._tasks: set[asyncio.Task[Any]] = set()
        self.cut_next, self.cuts = False, 0

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        """Yields the port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back_reader, back_writer = await asyncio.open_unix_connection(self._path)
        except OSError:
            writer.transport.abort()
            return
        for source, target, other in ((reader, back_writer, writer), (back_reader, writer, back_writer)):
            task = asyncio.create_task(self._copy(source, target, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _copy(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, other: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                if self.cut_next and len(data) > 1 and random.random() < 0.3:
                    self.cut_next, self.cuts = False, self.cuts + 1
                    target.write(data[: random.randrange(1, len(data))])
                    break
                target.write(data)
                await target.drain()
        for writer in (target, other):
            with contextlib.suppress(OSError):
                writer.close()
