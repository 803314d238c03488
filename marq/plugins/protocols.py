"""The protocols of plugins, one for each group. Plugins may import this module; VERSION counts its changes.

An entry point names a class or function without arguments that makes the plugin. The plugin has an attribute
`protocol`, the version of these protocols that it was written for.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from marq.token_planes import INFERENCE as INFERENCE
from marq.token_planes import MANAGEMENT as MANAGEMENT

VERSION = 1

AUTHORIZERS, BATCHING, ENDPOINTS = "marq.authorizers", "marq.batching", "marq.endpoints"
OBSERVERS, STORES = "marq.observers", "marq.stores"
# The names that a plugin of each group must have besides `protocol`.
GROUPS: Mapping[str, tuple[str, ...]] = {
    AUTHORIZERS: ("headers", "decide"),
    BATCHING: ("wait_s", "choose"),
    ENDPOINTS: ("plane", "router"),
    OBSERVERS: ("observe",),
    STORES: ("schemes", "pieces"),
}
OWN_POLICIES = ("adaptive", "fixed")  # names of batching policies that need no plugin
Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Access:
    """A request whose caller is to be judged.

    `plane` is "inference" or "management". `route` is the path without its query; over gRPC
    "/package.Service/Method", with the method "gRPC". `model` is empty where the request names none.
    """

    plane: str
    method: str
    route: str
    headers: Headers
    model: str = ""
    version: str | None = None
    subject: str = ""  # the common name of the client's certificate, over gRPC with `grpc_client_ca_file`

    def header(self, name: str) -> str:
        """The first value of a header, in any case; empty if the request has none."""
        wanted = name.lower().encode()
        return next((value.decode("latin-1") for key, value in self.headers if key.lower() == wanted), "")


@dataclass(frozen=True)
class Allow:
    """The request is served. For `valid_for_s` seconds the same answer holds for requests that are equal in
    plane, method, route, model, version and the authorizer's `headers`; these do not reach the authorizer."""

    valid_for_s: float = 0.0


@dataclass(frozen=True)
class Deny:
    """The request is refused with this status (401 or 403) and reason."""

    reason: str
    status: int = 403


class Authorizer(Protocol):
    """Decides whether a request is served. Called in threads, several at a time."""

    protocol: int
    headers: Sequence[str]  # the names of all headers that its decisions depend on

    def decide(self, access: Access, /) -> Allow | Deny | None:
        """None leaves the decision to the next authorizer; marq's tokens are the last one."""


@dataclass(frozen=True)
class Answer:
    """A whole answer of the server."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Server(Protocol):
    """The gateway process as an endpoint sees it. Its requests need no token."""

    @property
    def settings(self) -> Any:
        """The server's `marq.settings.fields.Settings`."""

    @property
    def is_healthy(self) -> bool:
        """The answer of `/ping`."""

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""

    async def predict(
        self,
        model: str,
        body: bytes,
        *,
        version: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """The answer of `POST /predictions/{model}`: errors are answers, too."""

    async def manage(self, method: str, path: str, query: Mapping[str, object] | None = None) -> Answer:
        """The answer of the management API."""


class Endpoints(Protocol):
    """Adds routes to one address. They need the token of their plane, as all others."""

    protocol: int
    plane: str  # "inference" or "management"

    def router(self, server: Server, /) -> object:
        """A `fastapi.APIRouter`. A path that the address serves already ends the start."""


@dataclass(frozen=True, slots=True)
class Row:
    """A request that a replica holds. Times are unix milliseconds by Redis's clock."""

    queued_ms: int
    deadline_ms: int | None
    priority: str  # "high", "normal" or "low"; "front" for one that comes back from another replica
    bytes: int  # of the body; 0 for a large one, which is a file
    content_type: str


@dataclass(frozen=True, slots=True)
class Held:
    """The state of a replica that is about to form a batch. `rows` are in marq's own order."""

    rows: Sequence[Row]
    batch_size: int
    max_batch_delay_s: float
    handler_s: float  # moving average of the handler's time for a batch; 0.0 before the first
    now_ms: int


class BatchingPolicy(Protocol):
    """Forms the batches of the models whose `batching` is its name. Each replica has one."""

    protocol: int

    def wait_s(self, held: Held, /) -> float:
        """How long to wait for more rows now, within the batching delay; 0: not at all.

        Asked if fewer than `batch_size` rows are held, and again when rows have come.
        """

    def choose(self, held: Held, /) -> Sequence[int]:
        """Which rows run together: indices of `held.rows`, at most `batch_size`. Others wait."""


@dataclass(frozen=True, slots=True)
class Finished:
    """A request that has its answer, or a job that was queued (`status` 202) or has ended.

    `status` 499: the client went away, or the job was cancelled. Of a run of a workflow, `model` is the
    workflow and `version` that of its start node.
    """

    model: str
    version: str
    kind: str  # "prediction", "job" or "workflow"
    status: int
    ended: float  # unix seconds
    seconds: float
    request_bytes: int
    answer_bytes: int


class Observer(Protocol):
    """Sees every finished prediction, run of a workflow and job submission, and the end of every job.

    That is some time later, in a thread of its own. Ends of jobs go to one gateway of the cluster, at least
    once.
    """

    protocol: int

    def observe(self, finished: Sequence[Finished], /) -> None:
        """Called with those since the last call, in their order."""


class Store(Protocol):
    """Reads archives from URLs of its schemes."""

    protocol: int
    schemes: Sequence[str]  # such as "gs"

    def pieces(self, url: str, /) -> Iterator[tuple[bytes, int | None]]:
        """The archive piece by piece, each with the size of the whole if that is known."""
