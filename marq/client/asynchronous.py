"""The client for event loops, and the requests of both clients."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from marq import keys
from marq.client import many, results
from marq.client.jobs import DEFAULT_TIMEOUT_S, AsyncBatch, AsyncJob
from marq.client.known_models import KnownModels
from marq.client.many import WINDOW
from marq.client.requests import Prediction, deadline, encode
from marq.client.results import Result
from marq.client.workflows import WorkflowClient
from marq.errors import ModelNotFound
from marq.host import server_file
from marq.jobs import events, groups, listing
from marq.jobs.cancellation import Cancelled, cancel_many
from marq.jobs.events import Event
from marq.jobs.groups import Group
from marq.jobs.jobs import Jobs
from marq.jobs.listing import MOST, JobFilter
from marq.jobs.options import JobOptions, Options
from marq.jobs.submission import KeyedRequest
from marq.queue.broker import Broker
from marq.queue.ids import JobId, new_id
from marq.queue.job_records import JobRecord
from marq.registry.spec import ModelSpec

if TYPE_CHECKING:
    from marq.workflows.spec import Workflow

PAGE = 500  # jobs that are read at once


class AsyncClient:
    """Submits predictions and jobs from an event loop.

    Without a URL it finds `MARQ_REDIS_URL`, or the server that this user runs on this host. Methods raise
    ModelNotFound, ModelVersionNotFound, ServiceUnavailable and RedisUnavailable.
    """

    def __init__(self, redis_url: str | None = None) -> None:
        self._url = redis_url or server_file.redis_url()
        self._broker = Broker(self._url)
        self._jobs = Jobs(self._broker)
        self._models = KnownModels(self._url)
        self._workflows = WorkflowClient(self._broker)

    async def __aenter__(self) -> Self:
        await self._broker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._jobs.stop()
        await self._broker.stop()

    async def predict(
        self,
        model: str,
        data: object,
        *,
        version: str | None = None,
        content_type: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
        priority: str = keys.NORMAL,
        path: str | None = None,
        explain: bool = False,
    ) -> Result:
        """The answer of a model, or of a workflow. Raises PredictionFailed for an error status, TimeoutError
        when late."""
        spec, request_id = await self._find(model, version), new_id()
        if not isinstance(spec, ModelSpec):
            fields = encode(data, content_type)
            reply = await self._workflows.predict(spec, fields, JobOptions(priority).priority, timeout)
            return results.of_reply(reply).check()
        lane = keys.lane(spec.name, spec.version, JobOptions(priority).priority).encode()
        fields = encode(data, content_type, path=path, explain=explain)
        try:
            async with asyncio.timeout(timeout):
                reply = await self._broker.predict(lane, request_id, fields)
        except TimeoutError:
            raise TimeoutError(f"model {model} has not answered within {timeout:g} s") from None
        finally:
            self._broker.withdraw(request_id)
        return results.of_reply(reply).check()

    async def map(
        self, model: str, rows: Iterable[object], *, window: int = WINDOW, **options: Unpack[Prediction]
    ) -> AsyncGenerator[Result, None]:
        """The answers to a prediction for each row, in their order; `window` of them wait at a time.

        The next rows are taken from the iterable as answers come, so it may be endless. `options`: as for
        `predict`, for each. The first error is raised, and ends it.
        """
        answers = many.in_order(lambda row: self.predict(model, row, **options), rows, window)
        async with contextlib.aclosing(answers):
            async for answer in answers:
                yield answer

    async def submit(
        self,
        model: str,
        data: object,
        *,
        version: str | None = None,
        content_type: str | None = None,
        key: str = "",
        start_within: float | None = None,
        path: str | None = None,
        explain: bool = False,
        **options: Unpack[Options],
    ) -> AsyncJob:
        """Queues one job of a model, or of a workflow.

        With an idempotency `key`, once for as long as the job's record is kept.

        A job that has not started within `start_within` seconds is `expired`. `options`: see JobOptions.
        Raises IdempotencyConflict where the key was used for something else, and BadRequest for an option.
        """
        asked = JobOptions(**options)
        spec = await self._find(model, version)
        if isinstance(spec, ModelSpec):
            asked = asked.of_model(spec.webhook_url)
        fields = encode(data, content_type, deadline(start_within), asked, path, explain)
        if not isinstance(spec, ModelSpec):
            return AsyncJob(self, await self._workflows.submit(spec, fields, asked, key))
        if key:
            request = KeyedRequest(spec.name, version, key, fields)
            public_id, _ = await self._jobs.submit_once(spec.version, request, asked.priority)
        else:
            public_id = await self._jobs.submit(spec.name, spec.version, new_id(), fields, asked.priority)
        return AsyncJob(self, public_id)

    async def _find(self, name: str, version: str | None) -> "ModelSpec | Workflow":
        """The model, else the workflow of that name. Raises ModelNotFound and ModelVersionNotFound."""
        try:
            return await self._models.spec(name, version)
        except ModelNotFound:
            workflow = await self._workflows.find(name) if version is None else None
            if workflow is None:
                raise
            return workflow

    async def submit_many(
        self,
        model: str,
        rows: Iterable[object],
        *,
        version: str | None = None,
        content_type: str | None = None,
        start_within: float | None = None,
        **options: Unpack[Options],
    ) -> list[AsyncJob]:
        """Queues one job for each row, pipelined. `start_within`, `options`: as for `submit`, for each."""
        asked = JobOptions(**options)
        start_by = deadline(start_within)
        spec = await self._models.spec(model, version)
        asked = asked.of_model(spec.webhook_url)
        encoded = ((new_id(), encode(row, content_type, start_by, asked)) for row in rows)
        ids = await self._jobs.submit_many(spec.name, spec.version, encoded, asked.priority)
        return [AsyncJob(self, public_id) for public_id in ids]

    async def batch(
        self,
        model: str,
        rows: Iterable[object],
        *,
        version: str | None = None,
        content_type: str | None = None,
        key: str = "",
        start_within: float | None = None,
        **options: Unpack[Options],
    ) -> AsyncBatch:
        """Queues one job for each row, as a group with counts, events, one webhook and one `cancel`.

        With an idempotency `key` the same key and row number are the same job: a batch can be sent again.
        `webhook` gets a message when all have ended; with `webhook_events` one for each job, too. The other
        `options` are those of each job, with up to 7 tags.
        """
        asked = JobOptions(**options)
        asked.refuse_urls("The jobs of a batch have")
        spec, start_by = await self._models.spec(model, version), deadline(start_within)
        group = Group.new(spec.name, key)
        of_jobs = group.options(asked, spec.webhook_url)
        encoded = (
            (group.request_id(number), encode(row, content_type, start_by, of_jobs))
            for number, row in enumerate(rows, 1)
        )
        opening = await groups.open_group(self._broker, group, spec.version, asked)
        async with groups.uploading(self._broker, group, opening):
            ids = await self._jobs.submit_many(spec.name, spec.version, encoded, asked.priority, group.digest)
        return AsyncBatch(self._jobs, group, [AsyncJob(self, public_id) for public_id in ids])

    async def status(self, job: str | AsyncJob) -> JobRecord:
        """The job as it is now. Raises JobNotFound."""
        return await self._jobs.get(str(job))

    async def cancel(self, job: str | AsyncJob) -> bool:
        """Ends a job that has not finished; False for one that has. Raises JobNotFound."""
        return await self._jobs.cancel(str(job))

    async def cancel_many(
        self, model: str, *, version: str = "", state: str = "", tag: str = "", limit: int = MOST
    ) -> Cancelled:
        """Cancels up to `limit` unfinished jobs: how many, and how many are left for the next call."""
        return await cancel_many(self._broker, model, JobFilter(version, state, tag), limit)

    async def retry(self, job: str | AsyncJob) -> None:
        """Queues a failed or expired job again, with its id. Raises JobNotFound and Conflict."""
        await self._jobs.retry(str(job))

    async def jobs(
        self, model: str | None = None, *, version: str = "", state: str = "", tag: str = ""
    ) -> AsyncGenerator[JobRecord, None]:
        """The jobs of a model, or of all registered models, the newest first; without their results."""
        models, after = await self._names(model), None
        while True:
            page = await listing.page(self._broker, models, JobFilter(version, state, tag), PAGE, after)
            for record in page.jobs:
                yield record
            if (after := page.next) is None:
                return

    async def counts(self, model: str | None = None, *, version: str = "", tag: str = "") -> dict[str, int]:
        """How many jobs of a model, or of all registered models, are in each state."""
        page = await listing.page(self._broker, await self._names(model), JobFilter(version, "", tag), 1)
        return page.counts

    async def result(self, job: str | AsyncJob, timeout: float = DEFAULT_TIMEOUT_S) -> Result:
        """The finished job's answer.

        Raises TimeoutError, JobFailed, JobExpired, JobCancelled and JobNotFound.
        """
        record = await self._wait(str(job), timeout)
        return results.of_job(await self._jobs.with_body(record))

    async def as_completed(
        self, jobs: Iterable[str | AsyncJob], timeout: float = DEFAULT_TIMEOUT_S
    ) -> AsyncGenerator[AsyncJob, None]:
        """The jobs in the order in which they finish; `result` of each returns at once, or raises.

        Raises TimeoutError when not all have finished within `timeout` seconds, and JobNotFound.
        """
        finished = many.as_finished(self._wait(str(job), timeout) for job in jobs)
        async with contextlib.aclosing(finished):
            async for record in finished:
                yield AsyncJob(self, str(record.id))

    async def events(self, job: str | AsyncJob, after: str = "") -> AsyncGenerator[Event, None]:
        """A job's states, progress and streamed parts, as they come, until it has ended.

        `after`: the id of an event, to get those that came after it. Raises JobNotFound.
        """
        async for event in events.changes(self._jobs, str(job), events.Position.parse(after)):
            if event is not None:
                yield event

    def job(self, job_id: str) -> AsyncJob:
        """The job of an id that was kept. Raises JobNotFound for a text that is not an id."""
        return AsyncJob(self, str(JobId.parse(job_id)))

    async def _wait(self, job_id: str, timeout: float) -> JobRecord:
        record = await self._jobs.wait(job_id, timeout)
        if not record.is_finished:
            raise TimeoutError(f"job {job_id} is still {record.state} after {timeout:g} s")
        return record

    async def _names(self, model: str | None) -> list[str]:
        return [model] if model else await self._models.names()
