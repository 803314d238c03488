"""Runs of workflows: started here, advanced by the replicas that answer their nodes."""

import hiredis

from marq import keys
from marq.errors import QueueUnavailable, ServiceUnavailable
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.queue.pending import Waiting
from marq.workflows.spec import Workflow


class Runs:
    """The runs of one gateway process. Raises QueueUnavailable while Redis cannot be reached."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def start(
        self, workflow: Workflow, run_id: bytes, fields: EntryFields, priority: str, waiting: Waiting
    ) -> None:
        """Starts a run whose answer goes to `waiting`. Raises ServiceUnavailable; then it gets nothing."""
        self._broker.pending.add(run_id, b"", waiting)
        try:
            started = await self._broker.run(
                scripts.START_RUN,
                [keys.run(workflow.name, run_id.decode())],
                *_record(workflow, run_id, fields, priority),
                "replies",
                self._broker.stream,
            )
        except hiredis.ReplyError as error:
            self._broker.forget(run_id)
            raise QueueUnavailable(f"Redis refused the request: {error}") from None
        except ServiceUnavailable:
            self._broker.forget(run_id)
            raise
        if not started:
            self._broker.forget(run_id)
            node = workflow.graph.start
            raise ServiceUnavailable(f"The model of node {node} was unregistered.")

    async def cancel(self, workflow: Workflow, run_id: bytes) -> None:
        """Ends a run: what is queued of it leaves its lanes, its answer is ignored."""
        self._broker.forget(run_id)
        await self._broker.run(scripts.CANCEL_RUN, [keys.run(workflow.name, run_id.decode())])


def _record(workflow: Workflow, run_id: bytes, fields: EntryFields, priority: str) -> tuple[object, ...]:
    """Names and values of the fields of a run's record."""
    head = fields.head
    return (
        "plan", workflow.plan, "id", run_id, "priority", priority, "deadline", head.deadline,
        "type", head.type, "headers", head.headers, "params", head.params, "input", fields.body,
    )  # fmt: skip
