"""The applications of a gateway process: inference, management, and both behind one address."""

import logging
from collections.abc import Callable, Iterable
from functools import partial

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.middleware.base import RequestResponseEndpoint
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway import common_headers, error_answers, openapi, unused_parameters
from gateway.asgi import OWN_ROUTES, Responses, access_of
from gateway.auth.tokens import Tokens
from gateway.batches import routes as batches
from gateway.endpoints import Endpoint, OwnServer, endpoint, first_segments
from gateway.inference import job_events, job_lists, job_submission, jobs, kserve, urls
from gateway.inference.answer import Inference
from gateway.inference.predictor import Predictor
from gateway.inference.sequence_headers import SequenceHeaders
from gateway.management import dead_letters, models, token_renewal, webhooks
from gateway.openai import batch_routes, file_routes
from gateway.openai.run import stores
from gateway.routing.routes import Routes
from gateway.workflows import management
from gateway.workflows.admission import Admission
from gateway.workflows.hot_runs import HotRuns
from gateway.workflows.jobs import WorkflowJobs
from gateway.workflows.known import KnownWorkflows
from gateway.workflows.predictions import WorkflowPredictions
from marq import __version__
from marq.errors import InvalidToken, ServiceError, Unauthorized, pretty
from marq.jobs.jobs import Jobs
from marq.jobs.url_rules import UrlRules
from marq.plugins.discovery import Plugin
from marq.queue.ids import new_id
from marq.settings.fields import Settings
from marq.token_planes import INFERENCE, MANAGEMENT
from marq.workflows.runs import Runs

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset(("/docs", "/openapi.json", "/api-description"))
MANAGED = frozenset(
    ("models", "workflows", "dead-letters", "webhooks")
)  # first segments of the management API
UNHEALTHY: Responses = {
    500: {
        "description": "Redis does not answer, no pool runs a default version, or one of them has failed "
        "for too long."
    }
}
RENEWAL = "/token"  # takes a key of its own


class Application:
    """The routes that run models first; everything else is FastAPI's. Trailing slashes do not count."""

    def __init__(
        self,
        app: ASGIApp,
        inference: Inference | None = None,
        workflows: WorkflowPredictions | None = None,
    ) -> None:
        self._app, self._inference, self._workflows = app, inference, workflows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        segments = urls.segments_of(scope)
        if self._inference and scope.get("method") != "OPTIONS" and (target := urls.parse(segments)):
            await self._inference(scope, receive, send, target)
            return
        if self._workflows and segments[:1] == [urls.WORKFLOW] and scope.get("method") != "OPTIONS":
            await self._workflows(scope, receive, send, segments)
            return
        await self._app({**scope, "path": "/" + "/".join(segments)}, receive, send)


def plugged(
    settings: Settings, routes: Routes, jobs: Jobs, workflows: KnownWorkflows, found: Iterable[Plugin]
) -> list[Endpoint]:
    """The endpoints of plugins, whose requests to this gateway need no token. Raises PluginError."""
    if not (plugins := list(found)):
        return []
    all_open = Tokens(required=False)
    predictor = Predictor(
        routes, jobs.broker, jobs, all_open, settings.max_request_size, settings.max_buffered_bytes,
        SequenceHeaders.of(settings.sequence_headers), UrlRules.of(settings),
    )  # fmt: skip
    own = Applications(settings, routes, all_open, predictor, jobs, workflows)
    server = OwnServer(settings, routes, own.inference(), own.management())
    return [endpoint(each, server) for each in plugins]


class Applications:
    """Makes the applications; they share the parts that a gateway process has once."""

    def __init__(
        self, settings: Settings, routes: Routes, tokens: Tokens, predictor: Predictor, waiting: Jobs,
        workflows: KnownWorkflows,
    ) -> None:  # fmt: skip
        self._settings, self._routes, self._tokens = settings, routes, tokens
        self._predictor, self._jobs = predictor, waiting
        self._inference = Inference(predictor, routes, settings.max_form_fields)
        runs, admission = Runs(waiting.broker, settings.job_result_ttl_s * 1000), Admission(routes)
        self._workflows = WorkflowPredictions(predictor, admission, workflows, runs)
        self.hot_runs = HotRuns(predictor, admission, workflows, runs)
        self._run_jobs = WorkflowJobs(predictor, admission, workflows, runs)
        self._endpoints: list[Endpoint] = []

    def add(self, endpoints: Iterable[Endpoint]) -> None:
        """Serves the endpoints of plugins, too, in the applications that are made from now on."""
        self._endpoints += endpoints

    def inference(self) -> ASGIApp:
        """The application of the inference address."""
        app = _application("marq inference API", lambda _: INFERENCE, self._tokens)
        self._add_inference(app)
        app.include_router(kserve.readiness(self._routes))
        self._add_endpoints(app, INFERENCE)
        return Application(app, self._inference, self._workflows)

    def management(self) -> ASGIApp:
        """The application of the management address. Raises PluginError, as the others."""
        app = _management(self._settings, self._routes, self._tokens)
        self._add_endpoints(app, MANAGEMENT)
        return Application(app)

    def shared(self) -> ASGIApp:
        """The application of an address that serves both; each route takes its own plane's token."""
        managed = MANAGED | first_segments(self._endpoints, MANAGEMENT)
        app = _application("marq API", partial(_plane_of, managed), self._tokens)
        self._add_inference(app)
        _add_management(app, self._settings, self._routes, self._tokens)
        self._add_endpoints(app, INFERENCE, MANAGEMENT)
        return Application(app, self._inference, self._workflows)

    def _add_endpoints(self, app: FastAPI, *planes: str) -> None:
        """Last, so that none takes a path of the server."""
        for each in self._endpoints:
            if each.plane in planes:
                each.add_to(app)

    def _add_inference(self, app: openapi.DocumentedAPI) -> None:
        app.runs_models = True
        app.include_router(openapi.inference_router(self._routes))
        app.include_router(kserve.router(self._routes))
        result_ttl_ms = self._settings.job_result_ttl_s * 1000
        app.include_router(batches.router(self._predictor, self._jobs, result_ttl_ms))
        kept = stores(self._settings, self._routes, self._jobs)
        app.include_router(file_routes.router(kept.files, kept.records))
        app.include_router(batch_routes.router(self._predictor, self._jobs, kept.files, kept.records))
        app.include_router(job_submission.router(self._predictor, self._jobs, self._run_jobs))
        app.include_router(job_lists.router(self._predictor, self._jobs))
        app.include_router(jobs.router(self._predictor, self._jobs))
        app.include_router(job_events.router(self._jobs))
        app.include_router(_health(self._routes))


def management_application(settings: Settings, routes: Routes, tokens: Tokens) -> ASGIApp:
    """The application of the management address, without the endpoints of plugins."""
    return Application(_management(settings, routes, tokens))


def _management(settings: Settings, routes: Routes, tokens: Tokens) -> FastAPI:
    app = _application("marq management API", lambda _: MANAGEMENT, tokens)
    _add_management(app, settings, routes, tokens)
    return app


def _add_management(app: FastAPI, settings: Settings, routes: Routes, tokens: Tokens) -> None:
    app.include_router(models.router(settings, routes))
    app.include_router(dead_letters.router(settings))
    app.include_router(webhooks.router(settings))
    app.include_router(management.router(settings, routes))
    app.include_router(kserve.readiness(routes))
    if tokens.required:
        app.include_router(token_renewal.router(settings, tokens))


def _plane_of(managed: frozenset[str], path: str) -> str:
    return MANAGEMENT if path.split("/")[1] in managed else INFERENCE


def _health(routes: Routes) -> APIRouter:
    api = APIRouter(tags=["health"])

    @api.get("/ping", responses=UNHEALTHY)
    @api.api_route("/ping", methods=openapi.OTHER_METHODS, include_in_schema=False)
    @api.api_route("/ping/{rest:path}", methods=["GET", *openapi.OTHER_METHODS], include_in_schema=False)
    async def ping() -> Response:
        """TorchServe's health check: whether predictions can be answered."""
        healthy = routes.health.is_good
        status = {"status": "Healthy" if healthy else "Unhealthy"}
        return Response(pretty(status), 200 if healthy else 500, media_type="application/json")

    return api


def _application(title: str, plane_of: Callable[[str], str], tokens: Tokens) -> openapi.DocumentedAPI:
    app = openapi.DocumentedAPI(title=title, version=__version__, redirect_slashes=False)
    error_answers.add_to(app)
    app.include_router(openapi.router())

    @app.middleware("http")
    async def finish(request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Checks the token before, adds the headers of every answer after."""
        if not tokens.is_open and not _is_open(request):
            plane = plane_of(request.scope["path"])
            try:
                await tokens.authorize(access_of(request.scope, plane, *urls.model_of(request.scope)))
            except ServiceError as error:
                return _finished(error_answers.answer_to(_for_path(request, error)))
        try:
            response = await call_next(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.scope["path"])
            response = error_answers.answer_to(ServiceError("Internal server error."))
        unused_parameters.add_warnings(request, response)
        return _finished(response)

    return app


def _is_open(request: Request) -> bool:
    """Whether a request needs no token of the address's plane."""
    path = request.scope["path"]
    return path in OPEN_PATHS or path == RENEWAL or (path == "/" and request.method == "OPTIONS")


def _finished(response: Response) -> Response:
    response.raw_headers += common_headers.of_answer(new_id())
    return response


def _for_path(request: Request, error: ServiceError) -> ServiceError:
    """On marq's own routes a missing token is a 401."""
    if isinstance(error, InvalidToken) and request.scope["path"].startswith(OWN_ROUTES):
        return Unauthorized(error.message)
    return error
