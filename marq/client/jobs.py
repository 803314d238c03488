"""What the client for event loops submits: single jobs, and batches of them."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from marq.client.results import Result
from marq.jobs import ends, groups
from marq.jobs.cancellation import Cancelled
from marq.jobs.ends import EndEvent, Wanted
from marq.jobs.events import Event
from marq.jobs.groups import Group, GroupState
from marq.jobs.jobs import Jobs
from marq.queue.entries import DEFAULT_TTL_MS
from marq.queue.job_records import JobRecord

if TYPE_CHECKING:
    from marq.client.asynchronous import AsyncClient

DEFAULT_TIMEOUT_S = 60.0
LOOK_S = 0.5  # between two looks at a batch


class AsyncJob:
    """A submitted job; `str(job)` is its id."""

    def __init__(self, client: "AsyncClient", public_id: str) -> None:
        self._client, self.id = client, public_id

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def status(self) -> JobRecord:
        return await self._client.status(self.id)

    async def done(self) -> bool:
        """Whether the job has finished: succeeded, failed, expired or cancelled."""
        return (await self.status()).is_finished

    async def cancel(self) -> bool:
        """See AsyncClient.cancel."""
        return await self._client.cancel(self.id)

    async def retry(self) -> None:
        """See AsyncClient.retry."""
        await self._client.retry(self.id)

    def events(self, after: str = "") -> AsyncGenerator[Event, None]:
        """See AsyncClient.events."""
        return self._client.events(self.id, after)

    async def result(self, timeout: float = DEFAULT_TIMEOUT_S) -> Result:
        """See AsyncClient.result."""
        return await self._client.result(self.id, timeout)


class AsyncBatch:
    """Jobs that were submitted together; `str(batch)` is the id of their group.

    Methods raise JobNotFound when the group's record has expired: a while after its last job has ended.
    """

    def __init__(self, jobs: Jobs, group: Group, members: list[AsyncJob]) -> None:
        """`members`: the jobs in the order of their rows."""
        self._jobs, self._group, self.jobs, self.id = jobs, group, members, str(group)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"AsyncBatch({self.id!r}, {len(self.jobs)} jobs)"

    async def state(self) -> GroupState:
        """How many of its jobs are, or have ended, in each state, and whether all have ended."""
        return await groups.find(self._jobs.broker, self._group)

    async def cancel(self) -> Cancelled:
        """Cancels its jobs that have not finished: how many, and how many are left."""
        return await groups.cancel(self._jobs.broker, self._group, DEFAULT_TTL_MS)

    async def progress(self) -> AsyncGenerator[GroupState, None]:
        """Its state now, and each time it has changed, until all jobs have ended."""
        last = None
        while last is None or not last.is_finished:
            if last is not None:
                await asyncio.sleep(LOOK_S)
            if (state := await self.state()) != last:
                yield state
            last = state

    async def wait(self, timeout: float = DEFAULT_TIMEOUT_S) -> GroupState:
        """Its state when all jobs have ended. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout), contextlib.aclosing(self.progress()) as states:
                async for state in states:
                    last = state
        except TimeoutError:
            raise TimeoutError(f"batch {self.id} has not finished after {timeout:g} s") from None
        return last

    async def events(self, after: str = "") -> AsyncGenerator[EndEvent, None]:
        """The ends of its jobs as they come, from now on, until all have ended.

        `after`: the id of an event, to get those that came after it. Raises BadRequest for another text.
        """
        wanted = Wanted(self._group.model, self._group.tag, self._group)
        async with contextlib.aclosing(ends.changes(self._jobs, wanted, after)) as found:
            async for event in found:
                if event is not None:
                    yield event

    async def results(self, timeout: float = DEFAULT_TIMEOUT_S) -> AsyncGenerator[Result, None]:
        """The answers in the order of the rows; `timeout`: for each. Raises as `AsyncJob.result`."""
        for job in self.jobs:
            yield await job.result(timeout)
