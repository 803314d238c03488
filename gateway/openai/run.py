"""One batch from its input file to its output files. Every step may be done twice.

The id of a line's job follows from the batch and the line's number, so it is queued once. The output files
are written whole when all jobs have ended, and take their names in one step.
"""

import asyncio
import time
from dataclasses import dataclass

from gateway.asgi import Document
from gateway.openai import lines, output
from gateway.openai.files import OUTPUT, Files
from gateway.openai.lines import Line
from gateway.openai.records import (
    CANCELLED,
    CANCELLING,
    COMPLETED,
    EXPIRED,
    FAILED,
    FINALIZING,
    IN_PROGRESS,
    VALIDATING,
    WINDOW_S,
    Records,
)
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq import keys
from marq.errors import JobNotFound, ModelNotFound, ModelVersionNotFound, QueueFull, ServiceUnavailable
from marq.jobs import groups
from marq.jobs.groups import Group
from marq.jobs.jobs import Jobs
from marq.jobs.options import JobOptions
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.job_records import EXPIRED as EXPIRED_JOB
from marq.queue.job_records import FAILED as FAILED_JOB
from marq.queue.job_records import FINISHED, SUCCEEDED
from marq.settings.fields import Settings

WINDOW = 1000  # jobs of a batch that wait or run at a time: its bodies do not fill Redis
LOOK_S = 0.2  # between two looks at a batch that waits
RESULTS_S = WINDOW_S + 2 * 3600  # how long the jobs' results are kept: until the output is written
HEADERS = b'{"content-type": "application/json"}'


@dataclass(frozen=True)
class Stores:
    """All that batches are kept in."""

    records: Records
    files: Files
    jobs: Jobs
    routes: Routes
    longest: int  # bytes of a line


def stores(settings: Settings, routes: Routes, jobs: Jobs) -> Stores:
    """Those of a gateway process."""
    files = Files(jobs.broker, settings.state_dir)
    return Stores(Records(jobs.broker), files, jobs, routes, settings.max_request_size)


class Run:
    """The work on one batch."""

    def __init__(self, stores: Stores, record: Document, writer: str) -> None:
        self._stores, self._record, self._writer = stores, record, writer
        self._id = str(record["id"])
        self._input = stores.files.path(str(record["input_file_id"]))

    async def finish(self) -> None:
        """Does all that is left to do. Raises ServiceUnavailable while Redis cannot be reached."""
        records = self._stores.records
        if self._record["status"] == VALIDATING and not await self._validate():
            return
        self._record = await records.get(self._id)
        if self._record["status"] == IN_PROGRESS:
            await self._queue()
            await self._wait()
            self._record = await records.get(self._id)
        await self._end()

    # steps

    async def _validate(self) -> bool:
        endpoint = str(self._record["endpoint"])
        found = await asyncio.to_thread(lines.check, self._input, endpoint, self._stores.longest)
        now = int(time.time())
        if found.errors:
            errors = {"object": "list", "data": found.errors}
            await self._stores.records.change(
                self._id, (VALIDATING,), FAILED, ends=True, errors=errors, failed_at=now
            )
        else:
            counts = {"total": found.total, "completed": 0, "failed": 0}
            await self._stores.records.change(
                self._id, (VALIDATING,), IN_PROGRESS, in_progress_at=now, model=found.model,
                request_counts=counts,
            )  # fmt: skip
        return not found.errors

    async def _queue(self) -> None:
        """Queues the jobs; their group does not finish before the last of them."""
        options = JobOptions(priority=keys.LOW, result_ttl=RESULTS_S)
        broker = self._stores.jobs.broker
        opening = await groups.open_group(broker, self._group, "", options)
        async with groups.uploading(broker, self._group, opening):
            await self._queue_all(self._group.options(options))

    async def _queue_all(self, options: JobOptions) -> None:
        """Begins after the last line that is known to be queued."""
        head = EntryHead(
            type=b"application/json", headers=HEADERS,
            path=str(self._record["endpoint"]).lstrip("/").encode(), options=options.fields,
        )  # fmt: skip
        queued = int(str(self._record.get("queued", 0)))
        for some in lines.read(self._input):
            if some[-1].number <= queued:
                await asyncio.sleep(0)
                continue
            while await self._unfinished() > WINDOW or not await self._queue_lines(some, head):
                if await self._is_over():
                    return
                await asyncio.sleep(LOOK_S)
            last = some[-1].number
            if not await self._stores.records.change(self._id, (IN_PROGRESS,), IN_PROGRESS, queued=last):
                return

    async def _wait(self) -> None:
        """Waits for the jobs, or for the end of the batch's time, and begins its end."""
        total = int(str(self._total))
        while not await self._is_over():
            counts = await self._counts()
            if sum(counts[state] for state in FINISHED) >= total:
                break
            await asyncio.sleep(LOOK_S)
        ending = EXPIRED if self._is_late else COMPLETED
        await self._stores.records.change(
            self._id, (IN_PROGRESS,), FINALIZING, finalizing_at=int(time.time()), ending=ending
        )

    async def _end(self) -> None:
        """Writes the output files, and ends the batch."""
        status = self._record["status"]
        if status not in (FINALIZING, CANCELLING):
            return
        ending = str(self._record.get("ending", CANCELLED)) if status == FINALIZING else CANCELLED
        ids: Document = {}
        counts = {"total": self._total, "completed": 0, "failed": 0}
        if "model" in self._record:
            if ending != COMPLETED:
                await groups.cancel(self._stores.jobs.broker, self._group, RESULTS_S * 1000)
            ids, counts = await self._write(ending)
        await self._stores.records.change(
            self._id, (FINALIZING, CANCELLING), ending, ends=True, request_counts=counts, **ids,
            **{f"{ending}_at": int(time.time())},
        )  # fmt: skip

    async def _write(self, ending: str) -> tuple[Document, dict[str, int]]:
        """(the ids of the output files, the counts)."""
        written = output.Outputs(self._stores.files, self._id, self._writer)
        try:
            for some in lines.read(self._input):
                for line, record in zip(some, await self._results(some), strict=True):
                    written.add(line, record, ending)
                await asyncio.sleep(0)
            return await written.close(OUTPUT), written.counts
        finally:
            written.discard()

    # parts of steps

    @property
    def _group(self) -> Group:
        return Group(str(self._record["model"]), self._id, key=self._id)

    @property
    def _total(self) -> int:
        counts = self._record["request_counts"]
        assert isinstance(counts, dict)  # noqa: S101 - as Records.create writes it
        return int(counts["total"])

    @property
    def _is_late(self) -> bool:
        return time.time() > int(str(self._record["expires_at"]))

    async def _is_over(self) -> bool:
        return self._is_late or await self._stores.records.status(self._id) != IN_PROGRESS

    async def _unfinished(self) -> int:
        return sum(count for state, count in (await self._counts()).items() if state not in FINISHED)

    async def _counts(self) -> dict[str, int]:
        return await counts_of(self._stores.jobs, self._group)

    async def _queue_lines(self, some: list[Line], head: EntryHead) -> bool:
        """Queues jobs; False where there is no room for them now, or no such model."""
        try:
            route = self._stores.routes.find(self._group.model, None)
            _admit(route, some)
            rows = [(self._group.request_id(line.number), EntryFields(line.body, head)) for line in some]
            await groups.queue(self._stores.jobs.broker, self._group, route.spec.version, keys.LOW, rows)
        except (QueueFull, ModelNotFound, ModelVersionNotFound, ServiceUnavailable):
            return False
        return True

    async def _results(self, some: list[Line]) -> list[output.Found]:
        asked = (self._result(line) for line in some)
        return list(await asyncio.gather(*asked))

    async def _result(self, line: Line) -> output.Found:
        request_id = self._group.request_id(line.number).decode()
        try:
            return await self._stores.jobs.get(f"{self._group.model}:{request_id}")
        except JobNotFound:
            return None


async def counts_of(jobs: Jobs, group: Group) -> dict[str, int]:
    """The jobs of a batch by state; all are 0 before its first."""
    try:
        return (await groups.find(jobs.broker, group)).counts
    except JobNotFound:
        return dict.fromkeys((*FINISHED, "queued"), 0)


def request_counts(total: int, counts: dict[str, int]) -> dict[str, int]:
    """The counts as OpenAI's clients see them."""
    failed = counts[FAILED_JOB] + counts[EXPIRED_JOB]
    return {"total": total, "completed": counts[SUCCEEDED], "failed": failed}


def _admit(route: Route, some: list[Line]) -> None:
    """Counts the jobs. Raises QueueFull, and counts none, where not all have room."""
    admitted: list[Line] = []
    try:
        for line in some:
            route.admit_job(len(line.body))
            admitted.append(line)
    except QueueFull:
        for line in admitted:
            route.backlog.forgo(len(line.body))
        raise
