"""Writes outcomes to Celery's result backend, and sends the tasks that follow them."""

import logging
from collections.abc import Iterable
from typing import Any

import redis
from celery import Celery, states
from celery.app.task import Context
from celery.backends.redis import RedisBackend
from celery.canvas import maybe_signature
from kombu.exceptions import OperationalError

from bridge.outcomes import Outcome, of_error
from bridge.sender import BulkSender

PASSING = (redis.RedisError, OperationalError, OSError)  # a connection is lost: all is written again
log = logging.getLogger(__name__)
Ended = tuple[dict[str, Any], Outcome]  # a task's request, and its end


class Results:
    """Writes results with Celery's own backend: in bulk where that is a Redis, else one by one.

    The order is that of Celery's workers: the tasks that follow a success are sent first, then the result is
    written, then it counts for its chord. For one thread only. Raises the backend's and the broker's errors.
    """

    def __init__(self, app: Celery) -> None:
        self._app, self._backend = app, app.backend
        self._sender = BulkSender(self._backend) if isinstance(self._backend, RedisBackend) else None

    def write(self, ended: Iterable[Ended]) -> None:
        """Writing the same outcome twice changes nothing, but sends the tasks that follow it again, with the
        same ids."""
        pairs = [self._prepare(Context(request, delivery_info={}), outcome) for request, outcome in ended]
        plain = [pair for pair in pairs if not pair[0].ignore_result and not _fails_others(*pair)]
        if self._sender is None:
            for context, outcome in plain:
                self._backend.store_result(context.id, outcome.result, outcome.state, request=context)
        elif plain:
            self._sender.send([self._encode(context, outcome) for context, outcome in plain])
        for context, outcome in pairs:
            try:
                self._notify(context, outcome)
            except PASSING:
                raise
            except Exception:  # the others have their results
                log.exception("task %s: those that wait for it cannot be served", context.id)

    def _prepare(self, context: Context, outcome: Outcome) -> tuple[Context, Outcome]:
        """Sends the tasks that follow a success. One that cannot be sent fails the task, as in a worker."""
        if outcome.state == states.SUCCESS and (context.callbacks or context.chain):
            try:
                context.children.extend(self._send_followers(context, outcome.result))
            except PASSING:
                raise
            except Exception as error:  # signatures may hold anything
                log.warning("task %s: the tasks that follow cannot be sent: %r", context.id, error)
                outcome = of_error(error)
        return context, outcome

    def _send_followers(self, context: Context, value: Any) -> list[Any]:
        parents = {"parent_id": context.id, "root_id": context.root_id or context.id}
        sent = []
        for callback in context.callbacks or ():
            sent.append(maybe_signature(callback, app=self._app).apply_async((value,), **parents))
        if context.chain:
            following = maybe_signature(context.chain[-1], app=self._app)
            sent.append(following.apply_async((value,), chain=context.chain[:-1], **parents))
        return sent

    def _encode(self, context: Context, outcome: Outcome) -> tuple[bytes, bytes, int]:
        """What `_entry` returns; a result that cannot be encoded is a failure of its own task."""
        try:
            return self._entry(context, outcome)
        except Exception as error:
            log.warning("task %s: its result cannot be encoded: %r", context.id, error)
            return self._entry(context, of_error(error))

    def _entry(self, context: Context, outcome: Outcome) -> tuple[bytes, bytes, int]:
        """Key, value and time to live in s of a result."""
        backend = self._backend
        value = backend.encode_result(outcome.result, outcome.state)
        meta = backend._get_result_meta(result=value, state=outcome.state, traceback=None, request=context)
        meta["task_id"] = context.id
        failed = outcome.state == states.FAILURE
        ttl_s = getattr(backend, "failure_expires", backend.expires) if failed else backend.expires
        encoded = backend.encode(meta)
        value = encoded.encode() if isinstance(encoded, str) else encoded
        return backend.get_key_for_task(context.id), value, int(ttl_s or 0)

    def _notify(self, context: Context, outcome: Outcome) -> None:
        """Counts the task for its chord, fails the rest of its chain, and calls its error callbacks."""
        backend = self._backend
        if _fails_others(context, outcome):
            stores = not context.ignore_result
            backend.mark_as_failure(context.id, outcome.result, request=context, store_result=stores)
        elif context.chord:
            backend.on_chord_part_return(context, outcome.state, outcome.result)


def _fails_others(context: Context, outcome: Outcome) -> bool:
    """Whether the end of a task is the end of others: the backend writes these results itself."""
    return outcome.state == states.FAILURE and bool(context.chord or context.chain or context.errbacks)
