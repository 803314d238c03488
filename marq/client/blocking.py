"""Clients for other services: they write to the queue themselves, without HTTP.

with marq.Client() as client:                      # or marq.Client("redis://...")
    print(client.predict("digits", image_bytes).json())
    job = client.submit("digits", image_bytes)
    print(job.result(timeout=30).json())
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Self, TypedDict, Unpack

from marq.client.asynchronous import AsyncClient
from marq.client.blocking_jobs import Batch, Job
from marq.client.jobs import DEFAULT_TIMEOUT_S
from marq.client.loop import Loop
from marq.client.many import WINDOW, check_window
from marq.client.requests import Prediction, RequestOptions
from marq.client.results import Result
from marq.jobs.cancellation import Cancelled
from marq.jobs.events import Event
from marq.jobs.listing import MOST
from marq.jobs.options import Options
from marq.queue.job_records import JobRecord


class Submissions(RequestOptions, Options, total=False):
    """The options of AsyncClient.submit_many."""

    start_within: float | None


class Submission(Submissions, total=False):
    """The options of AsyncClient.submit."""

    key: str
    path: str | None
    explain: bool


class BatchSubmission(Submissions, total=False):
    """The options of AsyncClient.batch."""

    key: str


class Filter(TypedDict, total=False):
    """The options of AsyncClient.jobs."""

    version: str
    state: str
    tag: str


class Client:
    """AsyncClient for code without an event loop; may be used by several threads."""

    def __init__(self, redis_url: str | None = None) -> None:
        self._loop = Loop()
        try:
            self._client = AsyncClient(redis_url)
            self._loop.run(self._client.__aenter__())
        except BaseException:
            self._loop.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._loop.run(self._client.__aexit__(None, None, None))
        self._loop.stop()

    def predict(self, model: str, data: object, **options: Unpack[Prediction]) -> Result:
        """See AsyncClient.predict."""
        return self._loop.run(self._client.predict(model, data, **options))

    def map(
        self, model: str, rows: Iterable[object], *, window: int = WINDOW, **options: Unpack[Prediction]
    ) -> Iterator[Result]:
        """See AsyncClient.map. Rows are taken in the caller's thread."""
        check_window(window)
        running: deque[Future[Result]] = deque()
        try:
            for row in rows:
                running.append(self._loop.begin(self._client.predict(model, row, **options)))
                if len(running) == window:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()

    def submit(self, model: str, data: object, **options: Unpack[Submission]) -> Job:
        """See AsyncClient.submit."""
        return Job(self, self._loop.run(self._client.submit(model, data, **options)).id)

    def submit_many(self, model: str, rows: Iterable[object], **options: Unpack[Submissions]) -> list[Job]:
        """See AsyncClient.submit_many."""
        jobs = self._loop.run(self._client.submit_many(model, rows, **options))
        return [Job(self, job.id) for job in jobs]

    def batch(self, model: str, rows: Iterable[object], **options: Unpack[BatchSubmission]) -> Batch:
        """See AsyncClient.batch."""
        return Batch(self, self._loop, self._loop.run(self._client.batch(model, rows, **options)))

    def status(self, job: str | Job) -> JobRecord:
        return self._loop.run(self._client.status(str(job)))

    def cancel(self, job: str | Job) -> bool:
        """See AsyncClient.cancel."""
        return self._loop.run(self._client.cancel(str(job)))

    def cancel_many(self, model: str, *, limit: int = MOST, **wanted: Unpack[Filter]) -> Cancelled:
        """See AsyncClient.cancel_many."""
        return self._loop.run(self._client.cancel_many(model, limit=limit, **wanted))

    def retry(self, job: str | Job) -> None:
        """See AsyncClient.retry."""
        self._loop.run(self._client.retry(str(job)))

    def jobs(self, model: str | None = None, **wanted: Unpack[Filter]) -> Iterator[JobRecord]:
        """See AsyncClient.jobs."""
        return self._loop.each(self._client.jobs(model, **wanted))

    def counts(self, model: str | None = None, *, version: str = "", tag: str = "") -> dict[str, int]:
        """See AsyncClient.counts."""
        return self._loop.run(self._client.counts(model, version=version, tag=tag))

    def result(self, job: str | Job, timeout: float = DEFAULT_TIMEOUT_S) -> Result:
        """See AsyncClient.result."""
        return self._loop.run(self._client.result(str(job), timeout))

    def as_completed(self, jobs: Iterable[str | Job], timeout: float = DEFAULT_TIMEOUT_S) -> Iterator[Job]:
        """See AsyncClient.as_completed."""
        finished = self._client.as_completed([str(job) for job in jobs], timeout)
        return (Job(self, job.id) for job in self._loop.each(finished))

    def events(self, job: str | Job, after: str = "") -> Iterator[Event]:
        """See AsyncClient.events."""
        return self._loop.each(self._client.events(str(job), after))

    def job(self, job_id: str) -> Job:
        """See AsyncClient.job."""
        return Job(self, self._client.job(job_id).id)
