"""Sequences: requests with one id, which one replica runs in their order."""

import json
from collections.abc import Iterable, Sequence

from marq import keys
from marq.admission.seats import limits
from marq.connections.scripts import join, read
from marq.connections.urls import Command
from marq.errors import BadRequest, QueueFull, ServiceError
from marq.payloads.place import Place
from marq.queue.entries import EntryFields
from marq.queue.publishing import Answer, Publisher
from marq.queue.replies.entries import Reply
from marq.queue.scripts import MOVED
from marq.registry.spec import ModelSpec

ADMIT = read("marq.admission", "sequence", "admit")
DISPATCH = join(MOVED, read("marq.admission", "sequence", "dispatch"))
ACTIVE = read("marq.admission", "sequence", "active")
AT_ONCE = 100  # requests of each lane


class SequenceAdmission:
    """Assigns the requests of one model version to the replicas that have their sequences."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec, self._limits = spec, limits(spec)
        self._seats = keys.seats(spec.name, spec.version)
        self._lanes = keys.lanes(spec.name, spec.version)

    def call(self, lane: bytes, fields: EntryFields, entry: Sequence[bytes]) -> Command:
        """The script that queues a request; `entry`: the fields of its entry."""
        head = fields.head
        script_keys: list[str | bytes] = [self._seats, lane, *self._lanes]
        return ADMIT.call(script_keys, head.sequence, head.sequence_end or b"0", *self._limits, *entry)

    def refusal(self, fields: EntryFields, limit: bytes, open_ones: int) -> ServiceError:
        """Why the script did not queue a request."""
        return refusal(self._spec, fields.head.sequence, limit, open_ones)


def refusal(spec: ModelSpec, sequence: bytes, limit: bytes, open_ones: int | None = None) -> ServiceError:
    """The error for a request that a limit refuses."""
    queued, most, *_ = limits(spec)
    name = sequence.decode(errors="replace")
    if limit == b"fields":
        return BadRequest("A request of a sequence must not have more than 3,500 fields.")
    if limit == b"queued":
        return QueueFull(
            f'Model "{spec.name}": the sequence "{name}" has {queued} requests that wait, '
            f"and maxSequenceJobQueueSize allows {queued}."
        )
    count = most if open_ones is None else open_ones
    return QueueFull(
        f'Model "{spec.name}": the sequence "{name}" cannot begin: {count} sequences are open, '
        f"and maxNumSequence allows {most}."
    )


def dispatch(spec: ModelSpec, consumer: str) -> Command:
    """The script that assigns the requests which wait in the lanes.

    It returns (lane, entry, fields, limit) of those that a limit refuses.
    """
    return DISPATCH.call(
        [keys.seats(spec.name, spec.version), *keys.lanes(spec.name, spec.version)],
        keys.GROUP, consumer, AT_ONCE, keys.job(spec.name, ""), *limits(spec),
    )  # fmt: skip


def active(spec: ModelSpec, ids: Iterable[bytes], ended: Iterable[bytes] = ()) -> Command:
    """The script that notes which sequences have been active, and which the handler has ended."""
    given = list(ids)
    return ACTIVE.call([keys.seats(spec.name, spec.version)], *limits(spec), len(given), *given, *ended)


class SequencePublisher(Publisher):
    """Notes with each answer that its sequence was active, or that the handler has ended it.

    The handler does so with the response header that has the name of the header of a last request. Its
    value is the id, or several ids separated by `;`.
    """

    def __init__(
        self, spec: ModelSpec, device: str, job_result_ttl_ms: int, place: Place | None, end_header: str
    ) -> None:
        super().__init__(spec, device, job_result_ttl_ms, place)
        self._end_header = end_header

    def commands(self, answers: Sequence[Answer], started_ms: int, is_buried: bool = False) -> list[Command]:
        commands = super().commands(answers, started_ms, is_buried)
        ended = [each for _, reply in answers for each in _ended_by(reply, self._end_header)]
        if ids := {request.sequence for request, _ in answers if request.sequence}:
            commands.append(active(self._spec, ids, ended))
        return commands


def _ended_by(reply: Reply, header: str) -> list[bytes]:
    """The sequences that the handler ends with a reply."""
    if header.encode() not in reply.headers:
        return []
    named = json.loads(reply.headers).get(header, "")
    return [each.strip().encode("latin-1", "replace") for each in named.split(";") if each.strip()]
