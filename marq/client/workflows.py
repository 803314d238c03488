"""Runs of workflows for the clients: a name that is not a model's may be a workflow's."""

import asyncio
from typing import TYPE_CHECKING

from marq import keys
from marq.errors import ServiceError
from marq.jobs.options import JobOptions
from marq.jobs.submission import KeyedRequest
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.ids import new_id
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import WholeReply

if TYPE_CHECKING:
    from marq.workflows.spec import Workflow


class WorkflowClient:
    """Starts runs over a client's broker. Raises ServiceUnavailable and BadRequest."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def find(self, name: str) -> "Workflow | None":
        """The registered workflow of that name."""
        from marq.workflows.spec import Workflow  # it reads YAML, which most clients do without

        text = await self._broker.execute("HGET", keys.WORKFLOWS, name)
        return None if text is None else Workflow.from_json(text)

    async def predict(
        self, workflow: "Workflow", fields: EntryFields, priority: str, timeout: float
    ) -> Reply:
        """The answer of a run. Raises TimeoutError; then the run is cancelled, as where the caller is."""
        from marq.workflows.runs import Runs

        runs, run_id = Runs(self._broker), new_id()
        answer = WholeReply(loop=asyncio.get_running_loop())
        try:
            async with asyncio.timeout(timeout):
                await runs.start(workflow, run_id, fields, priority, answer)
                return await answer
        except (TimeoutError, asyncio.CancelledError, ServiceError):
            await runs.cancel(workflow, run_id)
            raise

    async def submit(self, workflow: "Workflow", fields: EntryFields, options: JobOptions, key: str) -> str:
        """Starts a run as a job; returns its public id."""
        from marq.workflows.runs import Runs

        request = KeyedRequest(workflow.name, None, key, fields) if key else None
        run_id = request.id if request else new_id()
        job_id, _ = await Runs(self._broker).submit(workflow, run_id, fields, options, request)
        return job_id
