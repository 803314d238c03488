"""The two applications of a gateway process: inference and management."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway import jobs, management, predictions
from gateway.asgi import NO_CACHE, ASGIApp, Receive, Scope, Send
from gateway.routes import Routes
from gateway.tokens import INFERENCE, MANAGEMENT, Tokens
from marq import __version__
from marq.errors import (
    BadRequest,
    InvalidToken,
    MethodNotAllowed,
    ResourceNotFound,
    ServiceError,
    Unauthorized,
    pretty,
)
from marq.identifiers import new_id
from marq.jobs import Jobs
from marq.settings import Settings

OPEN_PATHS = frozenset(("/docs", "/openapi.json", "/api-description"))


class InferenceApplication:
    """The hot path first; everything else is FastAPI's."""

    def __init__(self, hot: predictions.Predictions, app: ASGIApp) -> None:
        self._hot, self._app = hot, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(predictions.PREFIX):
            await self._hot(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def inference(
    settings: Settings, routes: Routes, hot: predictions.Predictions, waiting: Jobs, tokens: Tokens
) -> ASGIApp:
    """The application of the inference address."""
    app = _application("marq inference API", INFERENCE, tokens)
    app.include_router(jobs.router(routes, waiting, settings.max_request_size))

    @app.api_route("/ping", methods=["GET", "POST", "PUT", "HEAD"], tags=["health"])
    def ping() -> Response:
        """TorchServe's health check: whether each model's default version has its workers."""
        healthy = routes.healthy
        status = {"status": "Healthy" if healthy else "Unhealthy"}
        return Response(pretty(status), 200 if healthy else 500, media_type="application/json")

    return InferenceApplication(hot, app)


def management_application(settings: Settings, routes: Routes, tokens: Tokens) -> ASGIApp:
    """The application of the management address."""
    app = _application("marq management API", MANAGEMENT, tokens)
    app.include_router(management.router(settings, routes))
    return app


def _application(title: str, plane: str, tokens: Tokens) -> FastAPI:
    app = FastAPI(title=title, version=__version__, redirect_slashes=False)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)

    @app.middleware("http")
    async def finish(request: Request, call_next: Any) -> Response:
        """Checks the token before, adds the headers of every answer after."""
        if tokens.required and request.url.path not in OPEN_PATHS:
            try:
                tokens.check(plane, request.scope["headers"])
            except InvalidToken as error:
                return _finished(await _on_service_error(request, _for_path(request, error)))
        response: Response = await call_next(request)
        return _finished(response)

    return app


def _finished(response: Response) -> Response:
    response.raw_headers += [(b"x-request-id", new_id()), *NO_CACHE]
    return response


def _for_path(request: Request, error: InvalidToken) -> ServiceError:
    """On marq's own routes a missing token is a 401."""
    return Unauthorized(error.message) if request.url.path.startswith("/jobs") else error


async def _on_service_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for this class
    return Response(error.body(), error.status, dict(error.headers), "application/json")


async def _on_http_error(request: Request, error: Exception) -> Response:
    """FastAPI's own 404 and 405 in the contract's shape."""
    status = getattr(error, "status_code", 500)
    known = {404: ResourceNotFound, 405: MethodNotAllowed}.get(status)
    return await _on_service_error(request, known() if known else ServiceError(str(error), status))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    status = 422 if request.url.path.startswith("/jobs") else None
    failure = BadRequest(f"Parameter {where}: {first['msg']}", status)
    return await _on_service_error(request, failure)
