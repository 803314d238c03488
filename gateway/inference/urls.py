"""Every route that runs a model, except `/predictions`.

Which model a URL means, and what its handler is told.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs

from gateway.asgi import (
    Headers,
    Receive,
    Scope,
    Send,
    content_type,
    encode_headers,
    read_body,
    respond_error,
)
from gateway.auth import Tokens
from gateway.inference.answer import answer
from gateway.routing.routes import Route, Routes
from marq import forms
from marq.errors import BadRequest, ServiceError
from marq.queue.broker import Broker
from marq.queue.ids import new_id
from marq.registry.tokens import INFERENCE

MODEL_NAME = "model_name"  # of `/invocations`: a query parameter or a field of a form
# First segments that `/{model}/predict` leaves alone
RESERVED = frozenset(
    ("models", "predictions", "explanations", "jobs", "v1", "v2", "ping", "token", "workflows")
)
VERBS = {"predict": False, "infer": False, "explain": True}


@dataclass(frozen=True)
class Target:
    """What a URL asks for."""

    model: str = ""  # empty: the request has to tell
    version: str | None = None
    path: str | None = None  # what follows the version, where handlers are told
    explain: bool | None = None  # None: handlers are not told
    takes_query: bool = False  # whether the query string becomes part of the row

    def headers(self, given: Headers) -> Headers:
        """The client's headers with what the server adds."""
        return given if self.explain is None else [*given, (b"explain", str(self.explain).encode())]


def parse(segments: list[str]) -> Target | None:
    """The target of a path, or None if it runs no model."""
    match segments:
        case ["explanations", model]:
            return Target(model, path="", explain=True)
        case ["explanations", model, version, *rest]:
            return Target(model, version, "/".join(rest), explain=True)
        case ["v1", "models", name] if name.rpartition(":")[2] in ("predict", "explain"):
            model, _, verb = name.rpartition(":")
            return Target(model, explain=VERBS[verb])
        case ["v2", "models", model, ("infer" | "explain") as verb]:
            return Target(model, explain=VERBS[verb])
        case ["v2", "models", model, "versions", version, ("infer" | "explain") as verb]:
            return Target(model, version, explain=VERBS[verb])
        case ["invocations"]:
            return Target(takes_query=True)
        case ["models", model, "invoke"]:
            return Target(model, takes_query=True)
        case [model, "predict"] if model not in RESERVED:
            return Target(model, takes_query=True)
        case [model, version, "predict"] if model not in RESERVED:
            return Target(model, version, takes_query=True)
    return None


class Inference:
    """Queues the request as it came, waits for the reply, sends it on. Any method, any body."""

    def __init__(self, routes: Routes, broker: Broker, tokens: Tokens, max_request_size: int) -> None:
        self._routes, self._broker, self._tokens = routes, broker, tokens
        self._max_request_size = max_request_size

    async def __call__(self, scope: Scope, receive: Receive, send: Send, target: Target) -> None:
        request_id = new_id()
        try:
            route, fields = await self._read(scope, receive, target)
            await answer(scope, receive, send, self._broker, route, request_id, fields)
        except ServiceError as error:
            await respond_error(send, error, request_id)

    async def _read(self, scope: Scope, receive: Receive, target: Target) -> tuple[Route, tuple[bytes, ...]]:
        headers, query = scope["headers"], scope["query_string"]
        if self._tokens.required:
            self._tokens.check(INFERENCE, headers)
        if model := target.model or self._named(query):
            self._routes.find(model, target.version).check()
        body = await read_body(scope, receive, self._max_request_size)
        route = self._routes.find(model or _named_in_form(headers, body), target.version)
        route.check()
        fields: tuple[bytes, ...] = (
            b"type", content_type(headers), b"headers", encode_headers(target.headers(headers)),
        )  # fmt: skip
        if target.path is not None:
            fields += (b"path", target.path.encode())
        if target.takes_query and query:
            fields += (b"params", query)
        return route, (*fields, b"body", body)

    def _named(self, query: bytes) -> str:
        """The model of `/invocations`: the query's, or the only one that the server was started with."""
        named = parse_qs(query.decode("latin-1")).get(MODEL_NAME, [""])[-1]
        startup = self._routes.startup_models
        return named or (startup[0] if len(startup) == 1 else "")


def _named_in_form(headers: Headers, body: bytes) -> str:
    """The model that a form names. Raises BadRequest."""
    kind = content_type(headers)
    mime = forms.mime_type(kind).lower()
    fields: dict[str | None, bytes] = {}
    if mime == forms.FORM:
        fields = dict(forms.fields(body))
    elif mime == forms.MULTIPART and (boundary := forms.boundary(kind)):
        fields = {forms.part_name(part): content for part, content in forms.parts(body, boundary)[0]}
    if name := fields.get(MODEL_NAME):
        return name.decode("utf-8", "replace")
    raise BadRequest("Parameter model_name is required.")
