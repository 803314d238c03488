"""Answers requests: the commands that publish a batch's replies and acknowledge its entries."""

import json
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from marq import keys
from marq.connections.urls import Command
from marq.errors import DeadlineExceeded, ServiceError
from marq.payloads import body_keys
from marq.payloads.place import Place
from marq.queue import job_records, scripts
from marq.queue.entries import DEFAULT_TTL_MS, Request
from marq.queue.job_records import Progress
from marq.queue.replies.entries import JSON_HEADERS, Reply
from marq.registry.spec import ModelSpec

log = logging.getLogger(__name__)

Answer = tuple[Request, Reply]
# By state, attempts, status, headers and field of the body: requests, and what that field holds.
_Alike = dict[tuple[object, ...], list[tuple[Request, bytes]]]
TOO_LATE = "The request passed its deadline before it ran."
BURIED = "buried"  # as publish.lua calls the state of jobs that are dead letters
LONGEST_REASON = 1000  # characters
FIRST_ERROR = 400  # status
NEVER = 0  # instead of the time at which a request started


class Publisher:
    """Builds the commands for one model version; sends nothing itself, but writes the files of answers."""

    def __init__(
        self, spec: ModelSpec, device: str, job_result_ttl_ms: int = DEFAULT_TTL_MS,
        place: Place | None = None,
    ) -> None:  # fmt: skip
        """`place`: of large answers, which are files where their reader shares it."""
        self._place = place
        self._streamed: set[bytes] = set()  # ids of jobs of whose answers a part was sent
        self._spec = spec
        self._device = device
        self._ttl_ms = job_result_ttl_ms
        self._channel = keys.finished(spec.name)

    def commands(self, answers: Sequence[Answer], started_ms: int, is_buried: bool = False) -> list[Command]:
        """Replies first, acknowledgement last: a crash in between may repeat an answer, but loses none.

        `is_buried`: the jobs are dead letters, which are not tried again by themselves.
        """
        others = [answer for answer in answers if not (answer[0].job or answer[0].run)]
        jobs, runs = _kept(answers) if len(others) < len(answers) else ([], [])
        if self._place:
            answers = [(request, _in_file(self._place, request, reply)) for request, reply in answers]
        commands = [*_packed(answers), *_single(answers)]
        commands += _acknowledge(request for request, _ in others)
        if jobs:
            commands += self._publish(jobs, started_ms, len(answers), is_buried)
        if runs:
            commands.append(self._advance(runs, started_ms, is_buried))
        return commands

    def parts(self, answers: Sequence[Answer]) -> list[Command]:
        """The commands that send parts of answers."""
        jobs = [self._keep_part(request, part) for request, part in answers if request.job]
        self._streamed.update(request.id for request, _ in answers if request.job)
        return [*_packed(answers), *_single(answers), *jobs]

    def progress(self, reports: Sequence[tuple[Request, Progress]]) -> list[Command]:
        """The commands that keep the progress of jobs."""
        return [
            scripts.PROGRESS.call(
                [request.lane, keys.job(self._spec.name, request.id.decode())],
                keys.GROUP, request.entry, request.id, self._spec.version, request.queued_ms, self._channel,
                progress.encode(),
            )
            for request, progress in reports if request.job
        ]  # fmt: skip

    def _keep_part(self, request: Request, part: Reply) -> Command:
        """The command that keeps a part of a job's answer; the first part also keeps status and headers."""
        headers = json.loads(part.headers or b"{}")
        head = {"attempt": int(request.attempts) + 1, "status": part.status, "headers": headers}
        model, request_id = self._spec.name, request.id.decode()
        return scripts.PART.call(
            [request.lane, keys.job(model, request_id), keys.parts(model, request_id)],
            keys.GROUP, request.entry, request.id, self._spec.version, request.queued_ms, self._ttl_ms,
            self._channel, part.more, json.dumps(head), part.body,
        )  # fmt: skip

    def expire(self, requests: Sequence[Request]) -> list[Command]:
        """Answers requests that passed their deadline before they ran."""
        return self.refuse(requests, DeadlineExceeded(TOO_LATE))

    def refuse(self, requests: Sequence[Request], error: ServiceError) -> list[Command]:
        """Answers requests that never run with an error."""
        replies = [Reply(r.id, error.status, error.body(), JSON_HEADERS) for r in requests]
        return self.commands(list(zip(requests, replies, strict=True)), NEVER)

    def _publish(self, jobs: list[Answer], started_ms: int, rows: int, is_buried: bool) -> Iterator[Command]:
        """One call for each lane. Answers that are equal but for their bodies are sent once."""
        lanes: defaultdict[str, _Alike] = defaultdict(lambda: defaultdict(list))
        for request, reply in jobs:
            attempts = int(request.attempts) + (started_ms != NEVER)
            ref = self._kept_in_file(request, reply)
            state = BURIED if is_buried else _state(reply, started_ms)
            field = "body_ref" if ref else "body"
            lanes[request.lane][state, attempts, reply.status, reply.headers, field].append(
                (request, ref or reply.body)
            )
        about = self._ttl_ms, self._channel, self._spec.version, self._device, int(time.time() * 1000)
        of_batch = (rows, started_ms) if started_ms != NEVER else (0, "")
        for lane, kinds in lanes.items():
            script_keys = [lane]
            arguments: list[object] = []
            for alike, kept in kinds.items():
                script_keys += (keys.job(self._spec.name, request.id.decode()) for request, _ in kept)
                arguments += (*alike, len(kept))
                arguments += (request.entry for request, _ in kept)
                arguments += (body for _, body in kept)
            yield scripts.PUBLISH.call(script_keys, keys.GROUP, *about, *of_batch, *arguments)

    def _advance(self, answers: Sequence[Answer], started_ms: int, is_buried: bool) -> Command:
        """The command that publishes the answers of nodes of workflows, and queues the nodes that follow."""
        script_keys: list[str | bytes] = []
        arguments: list[object] = []
        for request, reply in answers:
            outcome, answer, reason, ref = "ok", reply, "", b""
            if reply.status >= FIRST_ERROR:
                reason = _reason(reply)
                outcome = "final" if is_buried or started_ms == NEVER else "failed"
                if started_ms != NEVER:
                    failure = ServiceError(f"Error executing {request.node.decode()}")  # TorchServe's text
                    answer = Reply(reply.id, failure.status, failure.body(), JSON_HEADERS)
            elif request.store and self._place:
                ref = _run_in_file(self._place, request, reply)
            script_keys += (request.lane, request.run)
            arguments += (
                request.entry, request.node, outcome, answer.status, answer.headers, ref or answer.body,
                reason, "ref:" if ref else "out:",
            )  # fmt: skip
        return scripts.ADVANCE.call(script_keys, keys.GROUP, *arguments)

    def _kept_in_file(self, request: Request, reply: Reply) -> bytes:
        """The reference of a large result, if the store of those who ask for it is that of this host.

        Empty where it is kept in the record, as an error is, or the last part of a streamed answer.
        """
        files = self._place.jobs if self._place else None
        streamed = request.id in self._streamed
        self._streamed.discard(request.id)
        if files is None or len(reply.body) <= files.threshold or reply.status >= FIRST_ERROR or streamed:
            return b""
        if not request.store or request.store.decode() != files.identity:
            return b""
        try:
            return files.keep(self._spec.name, request.id.decode(), reply.body)
        except (OSError, ValueError) as error:
            log.warning("the result of job %s is kept in Redis: %s", request.id.decode(), error)
            return b""


def _kept(answers: Sequence[Answer]) -> tuple[list[Answer], list[Answer]]:
    """Those of jobs, and those of nodes of workflows."""
    jobs = [answer for answer in answers if answer[0].job]
    return jobs, [answer for answer in answers if answer[0].run and not answer[0].job]


def _run_in_file(place: Place, request: Request, reply: Reply) -> bytes:
    """The reference of the large answer of a node, if its run has its files on this host; else empty."""
    if len(reply.body) <= place.threshold:
        return b""
    store, run_id = request.store.decode(errors="replace"), request.id.decode()
    if not place.jobs or store != place.jobs.identity:
        return place.put(store, request.id, reply.body)
    try:
        return place.jobs.keep(keys.owner_of(request.run), run_id, reply.body)
    except (OSError, ValueError) as error:
        log.warning("an answer of run %s is kept in Redis: %s", run_id, error)
        return b""


def _reason(reply: Reply) -> str:
    """The sentence in an error's body, or the beginning of the body."""
    try:
        return str(json.loads(reply.body)["message"])[:LONGEST_REASON]
    except (ValueError, TypeError, KeyError, RecursionError):
        return f"{reply.status}: {reply.body[:LONGEST_REASON].decode('utf-8', 'replace')}"


def _in_file(place: Place, request: Request, reply: Reply) -> Reply:
    """The reply to a gateway, with its body in a file if it is large and the gateway shares the place."""
    if not request.replies or len(reply.body) <= place.threshold or request.job or request.reply:
        return reply
    ref = place.deposit(request.replies, reply.id, reply.body)
    return replace(reply, body=b"", body_ref=ref) if ref else reply


def _state(reply: Reply, started_ms: int) -> str:
    if started_ms == NEVER and reply.status == DeadlineExceeded.status:
        return job_records.EXPIRED
    return job_records.SUCCEEDED if reply.status < 400 else job_records.FAILED


def _packed(answers: Sequence[Answer]) -> list[Command]:
    """One entry with all replies for each reader that takes several; never creates the stream."""
    streams: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for request, reply in answers:
        if request.replies:
            streams[request.replies] += reply.fields()
    return [("XADD", stream, "NOMKSTREAM", "*", *fields) for stream, fields in streams.items()]


def _single(answers: Sequence[Answer]) -> list[Command]:
    return [command for request, reply in answers for command in reply.commands(request.reply, b"")]


def _acknowledge(requests: Iterable[Request]) -> list[Command]:
    entries: defaultdict[str, list[bytes]] = defaultdict(list)
    bodies: list[bytes] = []
    for request in requests:
        entries[request.lane].append(request.entry)
        if request.body_ref and body_keys.is_ref(request.body_ref):
            bodies.append(keys.beside(request.lane.encode(), request.body_ref))
    commands: list[Command] = []
    for lane, ids in entries.items():
        # In this order: after a crash in between, an entry that is not pending would never be deleted.
        commands.append(("XDEL", lane, *ids))
        commands.append(("XACK", lane, keys.GROUP, *ids))
    if bodies:
        commands.append(("UNLINK", *bodies))
    return commands
