"""Queues the bodies of a batch and answers with a line for each, while the request still arrives."""

import asyncio
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from gateway.asgi import Document
from gateway.batches.rows import Fault, Found, Reader, Row
from gateway.routing.route import Route
from gateway.uploads import too_large
from marq.connections.urls import Command
from marq.errors import ClientGone, RequestTooLarge, ServiceError
from marq.jobs import groups
from marq.jobs.groups import Group, Queued
from marq.jobs.submission import MOST_BYTES, MOST_JOBS, over_quota
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead

log = logging.getLogger(__name__)

MOST_ROWS = 100_000  # of a request; their answers may wait in memory for a client that reads none yet
MOST_OF_ALL = 2**30  # bytes of a request
TYPE = "application/x-ndjson"


@dataclass
class Batch:
    """The jobs of one request."""

    broker: Broker
    route: Route
    group: Group
    lane: str
    head: EntryHead  # but for the type, which each body has
    opening: Command  # of `groups.open_group`
    queued: int = 0
    refused: int = 0

    async def take(self, found: Iterable[Found]) -> list[Document]:
        """Queues bodies; the answer to each. One that cannot be queued does not keep others from it."""
        answers: list[Document] = []
        for rows in _alike(found):
            answers += await self._queue(rows)
        return answers

    @property
    def total(self) -> Document:
        return {"group": str(self.group), "queued": self.queued, "refused": self.refused}

    async def _queue(self, rows: list[Found]) -> list[Document]:
        """Queues bodies of one type, in one step."""
        faults = [row for row in rows if isinstance(row, Fault)]
        admitted: list[Row] = []
        for row in rows:
            if isinstance(row, Row):
                try:
                    self.route.admit_job(len(row.body))
                    admitted.append(row)
                except ServiceError as error:
                    faults.append(Fault(row.number, error))
        answers = await self._submit(admitted, faults) if admitted else []
        self.queued, self.refused = self.queued + len(answers), self.refused + len(faults)
        answers += [{"line": fault.number, "error": described(fault.error)} for fault in faults]
        return sorted(answers, key=lambda answer: int(str(answer["line"])))

    async def _submit(self, rows: list[Row], faults: list[Fault]) -> list[Document]:
        head = self._typed(rows[0].type)
        entries = [(self.group.request_id(row.number), EntryFields(row.body, head)) for row in rows]
        fates = [Queued.KNOWN] * len(rows)
        try:
            fates = await groups.queue(self.broker, self.group, self.route.spec.version, self.lane, entries)
        except ServiceError as error:
            faults += [Fault(row.number, error) for row in rows]
            return []
        finally:
            for row, fate in zip(rows, fates, strict=True):
                if fate is Queued.OVER_QUOTA:
                    faults.append(Fault(row.number, over_quota(self.group.model)))
                if fate is not Queued.NEW:
                    self.route.backlog.forgo(len(row.body))
        return [
            {"line": row.number, "job_id": f"{self.group.model}:{request_id.decode()}"}
            for row, (request_id, _), fate in zip(rows, entries, fates, strict=True)
            if fate is not Queued.OVER_QUOTA
        ]

    def _typed(self, kind: bytes) -> EntryHead:
        """The fields of bodies of this type, kept until another type comes: most batches have one."""
        if self.head.type != kind:
            headers = {**orjson.loads(self.head.headers), "content-type": kind.decode("latin-1")}
            self.head = replace(self.head, type=kind, headers=orjson.dumps(headers))
        return self.head


def _alike(found: Iterable[Found]) -> Iterator[list[Found]]:
    """The bodies in lists of one type, not too large for one call; faults go with their neighbours."""
    some: list[Found] = []
    kind, size = b"", 0
    for each in found:
        is_other = isinstance(each, Row) and each.type != kind
        if some and (is_other or len(some) == MOST_JOBS or size > MOST_BYTES):
            yield some
            some, size = [], 0
        if isinstance(each, Row):
            kind, size = each.type, size + len(each.body)
        some.append(each)
    if some:
        yield some


def described(error: ServiceError) -> Document:
    return {"code": int(error.status), "type": error.type, "message": error.message}


class BatchAnswer(Response):
    """The answer to a batch: a line for each body, then one with the totals.

    The request is read on while the client does not read the answer, so that one that sends all first is
    served, too. Rows queued before an error, or before the client went away, stay queued.
    """

    media_type = TYPE

    def __init__(self, batch: Batch, reader: Reader, location: str) -> None:
        super().__init__(status_code=202, headers={"Location": location})
        del self.headers["content-length"]
        self._batch, self._reader = batch, reader
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        first = await receive()  # a client that waits for "100 Continue" gets it before the answer
        reading = asyncio.create_task(self._read(first, receive))
        try:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            while line := await self._lines.get():
                await send({"type": "http.response.body", "body": line, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            reading.cancel()

    async def _read(self, message: Message, receive: Receive) -> None:
        """Puts the lines of the answer into the queue, and an empty one after the last."""
        problem: Document = {}
        async with groups.uploading(self._batch.broker, self._batch.group, self._batch.opening):
            try:
                await self._take_all(message, receive)
            except ServiceError as error:
                problem = {"error": described(error)}
            except Exception as error:
                log.exception("batch %s failed", self._batch.group)
                told = ServiceError(f"Internal server error: {type(error).__name__}")
                problem = {"error": described(told)}
        self._put({**self._batch.total, **problem})
        self._lines.put_nowait(b"")

    async def _take_all(self, message: Message, receive: Receive) -> None:
        size = 0
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            size += len(message.get("body", b""))
            if size > MOST_OF_ALL:
                raise too_large(size, MOST_OF_ALL, "a batch")
            await self._take(self._reader.feed(message.get("body", b"")))
            if not message.get("more_body", False):
                break
            message = await receive()
        await self._take(self._reader.close())

    async def _take(self, found: Iterator[Found]) -> None:
        room = MOST_ROWS - self._batch.queued - self._batch.refused
        for answer in await self._batch.take(islice(found, room)):
            self._put(answer)
        if next(found, None):
            raise RequestTooLarge(f"A batch may have {MOST_ROWS} bodies; send the others in another one.")

    def _put(self, answer: Document) -> None:
        self._lines.put_nowait(orjson.dumps(answer) + b"\n")
