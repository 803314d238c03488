"""Works on the batches whose input files are on this host, each in one gateway at a time.

A gateway holds the lease of a batch while it works on it. When it ends, however it ends, the lease ends soon
after, and another gateway of the host goes on.
"""

import asyncio
import logging
import time

import hiredis

from gateway.openai.records import CANCELLING, FAILED, FINALIZING, IN_PROGRESS, VALIDATING
from gateway.openai.run import Run, Stores
from marq import keys
from marq.errors import ServiceError
from marq.registry.name_lease import HOLD, RELEASE, Owner

log = logging.getLogger(__name__)

LEASE_S = 6.0
LOOK_S = 1.0  # between two looks for open batches
SWEEP_S = 600.0
MOST_AT_ONCE = 4  # batches of a gateway
OPEN = (VALIDATING, IN_PROGRESS, FINALIZING, CANCELLING)
TROUBLES = (ServiceError, ConnectionError, hiredis.ReplyError, OSError)


class Worker:
    """The work of one gateway process."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._owner = Owner.this_process()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._swept = 0.0

    async def follow(self) -> None:
        """Takes open batches; ends with the process."""
        try:
            while True:
                try:
                    await self._look()
                except TROUBLES as error:
                    log.warning("batches wait: %s", error)
                await asyncio.sleep(LOOK_S)
        finally:
            for task in self._running.values():
                task.cancel()

    async def _look(self) -> None:
        self._running = {name: task for name, task in self._running.items() if not task.done()}
        for batch_id in await self._stores.records.open():
            if batch_id in self._running or len(self._running) >= MOST_AT_ONCE:
                continue
            if await self._is_here(batch_id) and await self._hold(batch_id):
                self._running[batch_id] = asyncio.create_task(self._work(batch_id))
        if time.monotonic() > self._swept + SWEEP_S:
            self._swept = time.monotonic()
            await self._sweep()

    async def _sweep(self) -> None:
        records = self._stores.records
        used = {str((await records.get(each))["input_file_id"]) for each in await records.open()}
        await self._stores.files.sweep(used)

    async def _is_here(self, batch_id: str) -> bool:
        """Whether the input file is on this host. A batch whose time has ended without it fails."""
        status = await self._stores.records.status(batch_id)
        if not status:
            await self._stores.records.forget(batch_id)
            return False
        record = await self._stores.records.get(batch_id)
        if self._stores.files.path(str(record["input_file_id"])).exists():
            return True
        if time.time() > int(str(record["expires_at"])):
            now = int(time.time())
            await self._stores.records.change(batch_id, OPEN, FAILED, ends=True, failed_at=now)
        return False

    async def _work(self, batch_id: str) -> None:
        """Works on a batch while the lease can be renewed."""
        work = asyncio.create_task(self._finish(batch_id))
        try:
            while not (await asyncio.wait([work], timeout=LEASE_S / 3))[0]:
                if not await self._hold(batch_id):
                    log.warning("batch %s: another gateway has taken it", batch_id)
                    return
            await work
            await self._release(batch_id)
        except TROUBLES as error:
            log.warning("batch %s waits: %s", batch_id, error)
        except Exception:
            log.exception("batch %s waits", batch_id)
        finally:
            work.cancel()

    async def _finish(self, batch_id: str) -> None:
        record = await self._stores.records.get(batch_id)
        await Run(self._stores, record, self._owner.token).finish()

    async def _hold(self, batch_id: str) -> bool:
        key, ms = keys.batch_owner(batch_id), int(LEASE_S * 1000)
        owner, _ = await self._stores.jobs.broker.run(HOLD, [key], self._owner.token, str(self._owner), ms)
        return not owner

    async def _release(self, batch_id: str) -> None:
        await self._stores.jobs.broker.run(RELEASE, [keys.batch_owner(batch_id)], self._owner.token)
