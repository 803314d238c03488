"""The endpoints of plugins: the server as they see it, and their routes in the applications."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Scope

from gateway.in_process import Answer as RawAnswer
from gateway.in_process import Application, Request
from gateway.inference import urls
from gateway.routing.routes import Routes
from marq.plugins.discovery import Plugin, PluginError
from marq.plugins.protocols import INFERENCE, MANAGEMENT, Answer
from marq.settings.fields import Settings

log = logging.getLogger(__name__)

PARAMETER = re.compile(r"\{[^}]*\}")


class OwnServer:
    """This gateway, for endpoints: its applications without tokens, called in this process."""

    def __init__(self, settings: Settings, routes: Routes, inference: ASGIApp, management: ASGIApp) -> None:
        self.settings = settings
        self._routes = routes
        self._inference, self._management = Application(inference), Application(management)

    @property
    def is_healthy(self) -> bool:
        return self._routes.health.is_good

    def models(self) -> list[str]:
        registered = self._routes.registered
        return sorted(registered.specs) if registered else []

    async def predict(
        self,
        model: str,
        body: bytes,
        *,
        version: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        path = f"/predictions/{model}" + (f"/{version}" if version else "")
        lines = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        return _answer(await self._inference.ask(Request("POST", path, headers=lines, body=body)))

    async def manage(self, method: str, path: str, query: Mapping[str, object] | None = None) -> Answer:
        return _answer(await self._management.ask(Request(method, path, urlencode(query or {}).encode())))


def _answer(raw: RawAnswer) -> Answer:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw.headers}
    return Answer(raw.status, raw.body, headers)


@dataclass(frozen=True)
class Endpoint:
    """The routes of one plugin."""

    plugin: Plugin
    plane: str
    router: APIRouter

    @property
    def paths(self) -> list[str]:
        return [route.path for route in self.router.routes if isinstance(route, Route)]

    def add_to(self, app: FastAPI) -> None:
        """Raises PluginError for a path that is taken."""
        for route in self.router.routes:
            if isinstance(route, Route) and _is_taken(route, app.routes):
                raise PluginError(f"{self.plugin.found.label}: the path {route.path} is taken already")
        app.include_router(self.router)


def endpoint(plugin: Plugin, server: OwnServer) -> Endpoint:
    """The routes that a plugin makes. Raises PluginError, whatever the plugin raises."""
    try:
        plane, router = plugin.made.plane, plugin.made.router(server)
    except Exception as error:
        raise PluginError(f"{plugin.found.label} failed: {type(error).__name__}: {error}") from error
    if plane not in (INFERENCE, MANAGEMENT):
        raise PluginError(f"{plugin.found.label}: its plane {plane!r} is neither inference nor management")
    if not isinstance(router, APIRouter):
        raise PluginError(f"{plugin.found.label}: its router is not a fastapi.APIRouter")
    return Endpoint(plugin, plane, router)


def first_segments(endpoints: Iterable[Endpoint], plane: str) -> frozenset[str]:
    """The first segments of the paths of one plane."""
    chosen = [path for each in endpoints if each.plane == plane for path in each.paths]
    return frozenset(path.split("/")[1] for path in chosen if "/" in path)


def _is_taken(route: Route, served: Sequence[BaseRoute]) -> bool:
    """Whether the server, or another plugin, answers requests for this route."""
    sample = PARAMETER.sub("x", route.path)
    scopes: list[Scope] = [
        {"type": "http", "path": sample, "method": method, "headers": []} for method in route.methods or ()
    ]
    segments = [segment for segment in sample.split("/") if segment]
    return urls.runs_something(segments) or any(
        other.matches(scope)[0] == Match.FULL for scope in scopes for other in served
    )
