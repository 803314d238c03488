"""Queues requests by scripts that may refuse them."""

from collections.abc import Callable, Sequence
from typing import Protocol

import hiredis

from marq.connections.pipelined import PipelinedConnection
from marq.connections.urls import Command
from marq.errors import QueueUnavailable, ServiceError
from marq.queue.entries import EntryFields, EntryRef
from marq.queue.replies.pending import PendingRequests


class Admission(Protocol):
    """A script that decides whether a request is queued, and in which lane."""

    def call(self, lane: bytes, fields: EntryFields, entry: Sequence[bytes], /) -> Command:
        """The script: it returns (lane, entry) of a request that it has queued, else (0, limit, number)."""

    def refusal(self, fields: EntryFields, limit: bytes, number: int, /) -> ServiceError:
        """The error for a request that it has refused."""


async def admit(
    admission: Admission, call: Command, commands: PipelinedConnection, pending: PendingRequests,
    request_id: bytes, fields: EntryFields, on_refused: Callable[[], None],
) -> None:  # fmt: skip
    """Runs the script for a pending request, which fails with the reason where it is not queued."""
    try:
        first, second, *rest = await commands.run(call)
    except ConnectionError as error:
        pending.fail(request_id, error)
    except hiredis.ReplyError as error:
        pending.fail(request_id, QueueUnavailable(f"Redis refused the request: {error}"))
    else:
        if first:
            pending.move(request_id, EntryRef(first, second))
            return
        pending.fail(request_id, admission.refusal(fields, second, *rest))
    on_refused()
