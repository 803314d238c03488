"""What a gateway does each time it has read the registry."""

import asyncio
import contextlib
from dataclasses import dataclass

import hiredis

from gateway.auth.tokens import TokenFollower
from gateway.management.snapshots import SnapshotWriter
from gateway.observers.job_ends import JobEnds
from gateway.routing.late_requests import LateRequests
from gateway.routing.routes import Routes
from gateway.workflows.known import KnownWorkflows
from marq import keys
from marq.errors import ServiceUnavailable
from marq.host.stop_limit import StopLimit
from marq.payloads.place import Place
from marq.queue.broker import Broker
from marq.registry.models import HEARTBEAT_LIMIT_S


@dataclass(frozen=True)
class AfterRefresh:
    """Called when the routes may have changed, with the moment by Redis's clock of what they know.

    Refuses the requests for models that cannot be loaded, answers late ones where no replica runs, reads the
    tokens, reports the moment, and writes a snapshot if the models have changed.
    """

    routes: Routes
    broker: Broker
    follow_tokens: TokenFollower
    workflows: KnownWorkflows
    snapshots: SnapshotWriter
    late: LateRequests
    limit: StopLimit
    place: Place | None
    ends: JobEnds

    async def __call__(self, moment: float) -> None:
        routes, broker = self.routes, self.broker
        self.limit.note(spec.response_timeout_s for spec in routes.registered or ())
        for route in routes.failing():
            for priority in keys.LANES:
                broker.refuse(route.at(priority).lane, ServiceUnavailable(route.unavailable))
        for spec in routes.unserved():
            await asyncio.to_thread(self.late.expire, spec)
        await self.follow_tokens()
        await self.workflows.refresh(broker, routes.registered.mark if routes.registered else b"")
        await self.ends.open()  # before a job of a new model can end
        with contextlib.suppress(hiredis.ReplyError):  # Redis is full: nothing can be changed then, either
            await self._report(moment)
        await broker.execute("ZREMRANGEBYSCORE", keys.GATEWAYS, 0, repr(moment - HEARTBEAT_LIMIT_S))
        await self.snapshots.update()

    async def _report(self, moment: float) -> None:
        """Tells others what this gateway knows, and those who read results of jobs where they are."""
        await self.broker.execute("ZADD", keys.GATEWAYS, repr(moment), self.broker.stream)
        if self.place and (jobs := self.place.jobs) and (store := jobs.identity):
            await self.broker.execute("HSET", keys.JOB_STORES, store, str(jobs.directory))
