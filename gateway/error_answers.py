"""The answers to errors of FastAPI's routes: all have the shape of the contract."""

import redis
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.asgi import OWN_ROUTES
from marq.errors import BadRequest, MethodNotAllowed, QueueUnavailable, ResourceNotFound, ServiceError


def add_to(app: FastAPI) -> None:
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(redis.RedisError, _on_redis_error)


def answer_to(error: ServiceError) -> Response:
    return Response(error.body(), error.status, dict(error.headers), "application/json")


async def _on_service_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 - registered for this class
    return answer_to(error)


async def _on_redis_error(_request: Request, error: Exception) -> Response:
    return answer_to(QueueUnavailable(f"Redis does not answer as it should: {error}"))


async def _on_http_error(_request: Request, error: Exception) -> Response:
    """FastAPI's own 404 and 405 in the contract's shape."""
    status = getattr(error, "status_code", 500)
    known = {404: ResourceNotFound, 405: MethodNotAllowed}.get(status)
    return answer_to(known() if known else ServiceError(str(error), status))


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    status = 422 if request.scope["path"].startswith(OWN_ROUTES) else None
    return answer_to(BadRequest(f"Parameter {where}: {first['msg']}", status))
