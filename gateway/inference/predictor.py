"""How a prediction is queued: token, route, limits, deadline, entry fields and cancellation, in one place.

The receiver of an answer is a sink (`marq.queue.replies.pending.Waiting`): the socket of the fast path or an
ASGI response. A sink is filled from the event loop's thread.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from starlette.types import Receive, Scope

from gateway.asgi import Headers, content_type, encode_headers
from gateway.auth.tokens import AUTHORIZATION, Tokens
from gateway.inference import deadlines
from gateway.inference.job_intake import JobIntake
from gateway.inference.sequence_headers import USUAL, SequenceHeaders
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from gateway.uploads import Uploads, too_large
from marq.errors import ModelNotFound, QueueFull, ServiceError
from marq.jobs.jobs import Jobs
from marq.jobs.options import PLAIN, JobOptions
from marq.jobs.url_rules import UrlRules
from marq.payloads.folder import Upload
from marq.plugins.protocols import Access
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.pending import Waiting

USUAL_URLS = UrlRules()
CLIENT_GONE = 499  # the status of a prediction whose client went away before its answer
RunEnd = Callable[[int, int], None]  # status, bytes of the answer


class Predictor:
    """Queues predictions and jobs. All gateways of a process share one.

    Routes come from `find` and `hot_route`, which authorize the caller: no way in can forget it.
    """

    def __init__(
        self, routes: Routes, broker: Broker, jobs: Jobs, tokens: Tokens, max_request_size: int,
        max_buffered_bytes: int = 2**30, sequences: SequenceHeaders = USUAL,
        url_rules: UrlRules = USUAL_URLS,
    ) -> None:  # fmt: skip
        self.max_request_size = max_request_size
        self.sequences, self.url_rules = sequences, url_rules
        self.uploads = Uploads(max_buffered_bytes, max_request_size)
        self._intake = JobIntake(jobs, self.uploads, url_rules, max_request_size)
        folder = broker.folder
        # A larger body is a file, where the model's replicas share the folder
        self.threshold = folder.place.threshold if folder else max_request_size
        self._routes, self._broker, self.jobs, self._tokens = routes, broker, jobs, tokens

    @property
    def is_open(self) -> bool:
        """Whether anyone may predict: `authorize` then looks at no access."""
        return self._tokens.is_open

    async def authorize(self, access: Access) -> None:
        """Raises ServiceError, such as InvalidToken, if the caller may not do this."""
        if not self._tokens.is_open:
            await self._tokens.authorize(access)

    def hot_route(self, url: bytes, headers: Headers, method: bytes = b"POST") -> Route | None:
        """The route of a URL; None where more than a look-up is needed, also to authorize the caller."""
        route = self._routes.urls.get(url)
        if route is None or not route.is_plain:
            return None
        if not self._tokens.is_open and not self._admits(route, url, headers, method):
            return None
        return route

    def _admits(self, route: Route, url: bytes, headers: Headers, method: bytes) -> bool:
        version = route.spec.version if route.versioned else None
        return self._tokens.admits_at_once(headers, method, url, route.spec.name, version)

    def admits_run(self, url: bytes, headers: Headers, method: bytes, workflow: str) -> bool:
        """Whether a run is known to be allowed; False: `authorize` has to say."""
        return self._tokens.is_open or self._tokens.admits_at_once(headers, method, url, workflow, None)

    @property
    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        registered = self._routes.registered
        return sorted(registered.specs) if registered else []

    def time_until(self, model: str, version: str, position: int) -> float | None:
        """Seconds until the queued job at this position starts, at the recent rate; None: unknown."""
        try:
            return self._routes.find(model, version).backlog.time_until(position)
        except ModelNotFound:
            return None

    async def find(self, access: Access, model: str, version: str | None) -> Route:
        """The route of a model. Raises ModelNotFound, ModelVersionNotFound, or as `authorize`."""
        if not self._tokens.is_open:
            await self._tokens.authorize(replace(access, model=model, version=version))
        return self._routes.find(model, version)

    def entry_head(
        self,
        headers: Headers,
        path: bytes | None,
        params: bytes = b"",
        timeout_s: float | None = None,
        options: JobOptions = PLAIN,
    ) -> EntryHead:
        """The fields, but for the body, of a request that came over HTTP.

        Handlers get all headers but marq's own token. `timeout_s`: the request never starts later than that.
        """
        withheld = AUTHORIZATION if self._tokens.required else b""
        return EntryHead(
            type=content_type(headers),
            headers=encode_headers(headers, withheld),
            params=params,
            path=path,
            deadline=deadlines.deadline(timeout_s),
            options=options.fields,
        )

    def in_sequence(self, route: Route, head: EntryHead, headers: Headers) -> EntryHead:
        """The same fields with the sequence of the request, where the model has sequences."""
        return self.sequences.place(head, headers) if route.spec.sequence_batching else head

    def begin(self, route: Route, request_id: bytes, fields: EntryFields, sink: Waiting) -> None:
        """Queues a prediction whose answer goes to the sink.

        Raises ServiceError if it cannot be queued; then the sink gets nothing.
        """
        route.check()
        size = len(fields.body)
        if size > self.threshold or fields.file is not None:
            size, fields = self._in_file(route, request_id, fields)
        route.backlog.admit(size)
        try:
            if route.admission is None:
                self._broker.queue(route.lane, request_id, fields, sink)
            else:
                forgo = partial(route.backlog.forgo, size)
                self._broker.queue_if_admitted(
                    route.admission, route.lane, request_id, fields, sink, on_refused=forgo
                )
        except ServiceError:
            route.backlog.forgo(size)
            raise

    def begin_upload(self, route: Route, request_id: bytes, size: int) -> Upload | None:
        """The file for a body of about `size` bytes that is about to arrive.

        None where it is to be read into memory: the model has replicas elsewhere, too, or none, or a request
        of this size is refused. `cancel` removes the file of a request that is not queued.
        """
        folder = self._broker.folder
        full = size > self.max_request_size or route.unavailable or not route.backlog.has_room(size)
        if folder is None or full or not route.shares_files:
            return None
        try:
            return folder.begin(request_id, size)
        except QueueFull:
            return None

    async def read(self, route: Route, request_id: bytes, scope: Scope, receive: Receive) -> bytes | Upload:
        """The body of a request: in a file, if it is large and the model's replicas share the folder.

        Raises as `Uploads.read`, and QueueFull before a body is read for which there is no room.
        """
        folder = self._broker.folder
        if folder is None or not route.shares_files:
            return await self.uploads.read(scope, receive)
        return await self.uploads.read_into(scope, receive, self.threshold, partial(folder.begin, request_id))

    def _in_file(self, route: Route, request_id: bytes, fields: EntryFields) -> tuple[int, EntryFields]:
        """(size, fields) of a large body; a file, if it can be one. Raises RequestTooLarge or QueueFull."""
        size, folder = fields.size, self._broker.folder
        if size > self.max_request_size:
            raise too_large(size, self.max_request_size)
        if folder and fields.file is None and route.shares_files:
            fields = EntryFields(b"", fields.head, folder.add(request_id, fields.body))
        return size, fields

    async def read_job(self, route: Route, scope: Scope, receive: Receive, key: str = "") -> bytes | Upload:
        """The body of a job for `submit`. As `JobIntake.read`."""
        return await self._intake.read(route, scope, receive, key)

    async def submit(self, route: Route, fields: EntryFields, key: str = "") -> str:
        """Queues a job; returns its public id. As `JobIntake.submit`."""
        return await self._intake.submit(route, fields, key)

    def begin_run(
        self,
        workflow: str,  # noqa: ARG002 - all arguments are for hooks
        route: Route,  # noqa: ARG002
        fields: EntryFields,  # noqa: ARG002
        is_job: bool = False,  # noqa: ARG002
    ) -> RunEnd:
        """A run of a workflow begins at this route, or is submitted as a job.

        The caller reports its end, or that it is queued, once. Raises ServiceError.
        """
        return _unobserved

    def cancel(self, request_id: bytes, status: int = CLIENT_GONE) -> None:  # noqa: ARG002 - for hooks
        """The client takes no answer any more: a queued request leaves its lane, a streamed answer stops.

        `status` says why: the client has gone, or was answered with an error. Does nothing after the end.
        """
        self._broker.withdraw(request_id)


def _unobserved(status: int, answer_bytes: int) -> None:
    """The end of a run that no hook sees."""
