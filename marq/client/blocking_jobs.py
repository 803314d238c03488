"""What the client without an event loop submits: single jobs, and batches of them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from marq.client.jobs import DEFAULT_TIMEOUT_S, AsyncBatch
from marq.client.loop import Loop
from marq.client.results import Result
from marq.jobs.cancellation import Cancelled
from marq.jobs.ends import EndEvent
from marq.jobs.events import Event
from marq.jobs.groups import GroupState
from marq.queue.job_records import JobRecord

if TYPE_CHECKING:
    from marq.client.blocking import Client


class Job:
    """A submitted job; `str(job)` is its id."""

    def __init__(self, client: "Client", public_id: str) -> None:
        self._client, self.id = client, public_id

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobRecord:
        return self._client.status(self.id)

    def done(self) -> bool:
        """See AsyncJob.done."""
        return self.status().is_finished

    def cancel(self) -> bool:
        """See AsyncClient.cancel."""
        return self._client.cancel(self.id)

    def retry(self) -> None:
        """See AsyncClient.retry."""
        self._client.retry(self.id)

    def events(self, after: str = "") -> Iterator[Event]:
        """See AsyncClient.events."""
        return self._client.events(self.id, after)

    def result(self, timeout: float = DEFAULT_TIMEOUT_S) -> Result:
        """See AsyncClient.result."""
        return self._client.result(self.id, timeout)


class Batch:
    """AsyncBatch for code without an event loop."""

    def __init__(self, client: "Client", loop: Loop, batch: AsyncBatch) -> None:
        self._loop, self._batch, self.id = loop, batch, batch.id
        self.jobs = [Job(client, job.id) for job in batch.jobs]

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"Batch({self.id!r}, {len(self.jobs)} jobs)"

    def state(self) -> GroupState:
        """See AsyncBatch.state."""
        return self._loop.run(self._batch.state())

    def cancel(self) -> Cancelled:
        """See AsyncBatch.cancel."""
        return self._loop.run(self._batch.cancel())

    def progress(self) -> Iterator[GroupState]:
        """See AsyncBatch.progress."""
        return self._loop.each(self._batch.progress())

    def wait(self, timeout: float = DEFAULT_TIMEOUT_S) -> GroupState:
        """See AsyncBatch.wait."""
        return self._loop.run(self._batch.wait(timeout))

    def events(self, after: str = "") -> Iterator[EndEvent]:
        """See AsyncBatch.events."""
        return self._loop.each(self._batch.events(after))

    def results(self, timeout: float = DEFAULT_TIMEOUT_S) -> Iterator[Result]:
        """See AsyncBatch.results."""
        return self._loop.each(self._batch.results(timeout))
