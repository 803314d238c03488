"""Runs of workflows: started here, advanced by the replicas that answer their nodes."""

import asyncio
import time
from collections.abc import Callable

import hiredis

from marq import keys
from marq.errors import BadRequest, QueueUnavailable, ServiceError, ServiceUnavailable
from marq.jobs.options import JobOptions
from marq.jobs.submission import OTHER_DIGEST, KeyedRequest, expect_webhooks
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.entries import DEFAULT_TTL_MS, EntryFields
from marq.queue.ids import JobId
from marq.queue.replies.pending import Waiting
from marq.workflows.spec import FUNCTION_VERSION, Workflow
from marq.workflows.starting import Outcome, Starts

STARTED, NO_LANES = 1, 0  # what start_run.lua says of a run


class Runs:
    """The runs of one gateway process. Raises QueueUnavailable while Redis cannot be reached."""

    def __init__(self, broker: Broker, job_ttl_ms: int = DEFAULT_TTL_MS) -> None:
        """`job_ttl_ms`: for how long results of jobs are kept."""
        self._broker, self._job_ttl_ms = broker, job_ttl_ms
        self._starts = Starts(broker)

    async def start(
        self, workflow: Workflow, run_id: bytes, fields: EntryFields, priority: str, waiting: Waiting,
        store: str = "",
    ) -> None:  # fmt: skip
        """Starts a run whose answer goes to `waiting`. Raises ServiceUnavailable; then it gets nothing.

        `store`: the `folder`, if large answers of its nodes are to be written into it; `forget_files` removes
        them.
        """
        started: asyncio.Future[ServiceError | None] = asyncio.get_running_loop().create_future()

        def note(error: ServiceError | None) -> None:
            if not started.done():
                started.set_result(error)

        self.begin(workflow, run_id, fields, priority, waiting, note, store)
        if error := await started:
            raise error

    def begin(
        self, workflow: Workflow, run_id: bytes, fields: EntryFields, priority: str, waiting: Waiting,
        on_started: Callable[[ServiceError | None], None], store: str = "",
    ) -> None:  # fmt: skip
        """The same without a coroutine. `on_started` is called once, with the error that `start` raises.

        The answer may come before.
        """

        def note(outcome: Outcome) -> None:
            if error := _failure(workflow, outcome):
                self._broker.forget(run_id)
            on_started(error)

        self._broker.pending.add(run_id, b"", waiting)
        record = *_record(workflow, run_id, fields, priority, store), "replies", self._broker.stream
        self._starts.add(keys.run(workflow.name, run_id.decode()), "", record, note)

    async def submit(
        self,
        workflow: Workflow,
        run_id: bytes,
        fields: EntryFields,
        options: JobOptions,
        request: KeyedRequest | None = None,
        store: str = "",
    ) -> tuple[str, bool]:
        """Starts a run whose result is kept; returns its public id, and whether it is new.

        `store`: the id of the store of files for large answers of its nodes.
        Raises BadRequest for an option that runs do not have, and IdempotencyConflict where the key of
        `request` was used for something else.
        """
        _check(options)
        start = workflow.graph.start
        node = next(node for node in workflow.nodes if node.name == start)
        ttl_ms = self._job_ttl_ms if options.result_ttl is None else round(1000 * options.result_ttl)
        about = {
            "state": "queued",
            "version": FUNCTION_VERSION,
            "queued": int(time.time() * 1000),
            "tags": ",".join(dict.fromkeys(options.tags)),
            "lane": keys.lane(workflow.model(start), node.version, options.priority),
            "kept": ttl_ms,
            **options.webhook_fields,
        }
        record = _record(workflow, run_id, fields, options.priority, store)
        if options.webhook:
            await self._expect_webhooks(workflow)
        outcome = await self._starts.start(
            keys.job(workflow.name, run_id.decode()),
            request.digest if request else "",
            (*record, *(part for pair in about.items() for part in pair)),
        )
        if request and outcome == OTHER_DIGEST:
            raise request.conflict()
        if failure := _failure(workflow, outcome):
            raise failure
        return str(JobId(workflow.name, run_id.decode())), outcome == STARTED

    async def _expect_webhooks(self, workflow: Workflow) -> None:
        try:
            await expect_webhooks(self._broker, workflow.name)
        except hiredis.ReplyError as error:
            raise _refused(error) from None

    async def cancel(self, workflow: Workflow, run_id: bytes) -> None:
        """Ends a run: what is queued of it leaves its lanes, its answer is ignored."""
        self._broker.forget(run_id)
        await self._broker.run(scripts.CANCEL_RUN, [keys.run(workflow.name, run_id.decode())])

    @property
    def folder(self) -> str:
        """The name of the folder of this process's files; empty where it has none."""
        return self._broker.folder.name if self._broker.folder else ""

    def forget_files(self, run_id: bytes) -> None:
        """Removes the files of a run that has ended, or has never begun."""
        if self._broker.folder:
            self._broker.folder.discard_all(run_id)


def _failure(workflow: Workflow, outcome: Outcome) -> ServiceError | None:
    """Why a run was not started."""
    if isinstance(outcome, ServiceError):
        return outcome
    if isinstance(outcome, Exception):
        return _refused(outcome)
    if outcome == NO_LANES:
        return ServiceUnavailable(f"The model of node {workflow.graph.start} was unregistered.")
    return None


def _refused(error: Exception) -> QueueUnavailable:
    return QueueUnavailable(f"Redis refused the request: {error}")


def _check(options: JobOptions) -> None:
    """Raises BadRequest for what the specification of the workflow says, and for a later start."""
    given = (options.not_before, options.max_attempts, options.retries, options.retry_delay)
    if options.retry_on or any(each is not None for each in given):
        raise BadRequest("A run of a workflow has the options priority, tags, result_ttl and webhook only.")


def _record(
    workflow: Workflow, run_id: bytes, fields: EntryFields, priority: str, store: str
) -> tuple[object, ...]:
    """Names and values of the fields of a run's record."""
    head = fields.head
    body = (
        ("input", fields.body) if fields.file is None else ("input_ref", fields.file.ref, "size", fields.size)
    )
    return (
        "plan", workflow.plan, "id", run_id, "priority", priority, "headers", head.headers, *body,
        *(("deadline", head.deadline) if head.deadline else ()),
        *(("type", head.type) if head.type else ()),
        *(("params", head.params) if head.params else ()),
        *(("store", store) if store else ()),
    )  # fmt: skip
