"""One prediction on the hot path: the sink of its reply, which uvicorn takes for its request cycle."""

import logging
import time
from functools import lru_cache
from typing import Protocol

import httptools

from gateway.asgi import Headers, error_headers, reply_headers
from gateway.inference.predictor import CLIENT_GONE, Predictor
from gateway.routing.route import Route
from marq.errors import BadReply, QueueFull, ServiceError
from marq.payloads.folder import Upload
from marq.queue.entries import EntryFields
from marq.queue.ids import new_id
from marq.queue.replies.entries import Reply

log = logging.getLogger(__name__)


class Responder(Protocol):
    """The HTTP protocol that writes the answers."""

    url: bytes
    parser: httptools.HttpRequestParser

    def respond(self, exchange: "Exchange", status: int, body: bytes, headers: bytes) -> None: ...

    def respond_part(self, exchange: "Exchange", part: Reply) -> None: ...

    def end_stream(self, exchange: "Exchange", body: bytes | None) -> None: ...


def lines(headers: Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


class Runs(Protocol):
    """The runs of workflows that are answered inside the HTTP protocol."""

    def exchange(self, protocol: Responder, headers: Headers, method: bytes) -> "Exchange | None":
        """That of the protocol's URL; None for another URL, or where a run needs more than a look-up."""


@lru_cache(maxsize=256)
def encoded(headers: bytes) -> bytes:
    """The header lines of a reply; those of a model hardly ever differ."""
    return lines(reply_headers(headers))


class Exchange:
    """One prediction in flight, and the sink of its reply.

    It stands in for uvicorn's request cycle, so that uvicorn queues pipelined requests behind it, and ends
    the connection after it at a shutdown.
    """

    # Defaults of the class: few predictions change them, and an instance without them is made faster
    body = lane = entry = b""
    upload: Upload | None = None  # the file that takes the body instead of `body`
    failure: ServiceError | None = None  # of the upload
    takes_buffers = True  # an answer may be a mapped file
    is_prediction = True
    response_started = False
    streaming = chunked = bodiless = disconnected = False
    more_body = keep_alive = True
    status = 0

    def __init__(self, protocol: "Responder", route: Route, method: bytes) -> None:
        self.protocol: Responder | None = protocol
        self.route, self.method, self.url = route, method, protocol.url
        self.keep_alive = protocol.parser.should_keep_alive()
        self.request_id = new_id()
        self.began = time.monotonic()

    def begin_upload(self, predictor: Predictor, size: int) -> Upload | None:
        """The file for a large body; see `Predictor.begin_upload`."""
        return predictor.begin_upload(self.route, self.request_id, size)

    def begin(self, predictor: Predictor, fields: EntryFields) -> None:
        """The request is complete: queues it. Raises ServiceError."""
        predictor.begin(self.route, self.request_id, fields, self)

    def cancel(self, predictor: Predictor, status: int = CLIENT_GONE) -> None:
        """The client takes no answer any more; see `Predictor.cancel`."""
        predictor.cancel(self.request_id, status)

    @property
    def response_complete(self) -> bool:
        return self.protocol is None

    @property
    def message_event(self) -> "Exchange":
        return self

    def set(self) -> None:
        """Nothing waits for more of the request: it is queued when it is complete."""

    def done(self) -> bool:
        return self.protocol is None

    def set_part(self, part: Reply) -> None:
        if self.protocol is not None:
            self.protocol.respond_part(self, part)

    def set_result(self, reply: Reply) -> None:
        if self.streaming:
            self._end_stream(reply.body)
            return
        self.route.backlog.waiting -= 1
        try:
            headers = encoded(reply.headers) if reply.headers else b""
        except BadReply as error:
            log.error("request %s: %s", self.request_id.decode(), error.message)
            self.set_exception(error)
            return
        self._respond(reply.status, reply.body, headers)

    def set_exception(self, error: Exception) -> None:
        if self.streaming:
            self._end_stream(None)
            return
        failure = error if isinstance(error, ServiceError) else ServiceError(str(error))
        self._respond(failure.status, failure.body(), lines(error_headers(failure)))

    def _end_stream(self, body: bytes | None) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.end_stream(self, body)

    def keep(self, upload: Upload, body: bytes) -> None:
        """Takes the next bytes of a body that is a file."""
        if self.failure is None:
            try:
                upload.write(body)
            except QueueFull as error:
                self.failure = error  # the answer, once the client has sent everything

    @property
    def received(self) -> int:
        """Bytes of the body so far."""
        return len(self.body) if self.upload is None else self.upload.size

    def kept(self, upload: Upload) -> Upload:
        """The file, when the body is complete. Raises QueueFull if it could not be kept."""
        if self.failure:
            raise self.failure
        upload.close()
        return upload

    def _respond(self, status: int, body: bytes, headers: bytes) -> None:
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.respond(self, status, body, headers)
