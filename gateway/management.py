"""The management API: register, describe, scale, set-default, unregister; TorchServe's routes and texts.

Handlers are plain functions that talk to Redis; FastAPI runs them in threads.
"""

import contextlib
from typing import Any

import anyio.from_thread
import anyio.to_thread
from fastapi import APIRouter, Depends, Request, Response

from gateway import openapi
from gateway.asgi import content_type, read_body
from gateway.customized import ask_handler
from gateway.dependencies import wait_for_dependencies
from gateway.documents import model_document
from gateway.openapi import (
    PAGE,
    Customized,
    Limit,
    MaxWorker,
    MinWorker,
    ModelVersion,
    PageToken,
    Synchronous,
    Timeout,
)
from gateway.registration import model_store, resolve
from gateway.routes import Routes
from gateway.unregister import clear, remove_download, wait_for_workers, wait_until_stopped
from marq import connection, gpus
from marq.errors import (
    BadRequest,
    Conflict,
    InvalidModelVersion,
    MethodNotAllowed,
    ModelFailed,
    RequestTimeout,
    ServiceError,
    pretty,
)
from marq.registry import ModelSpec, Registry
from marq.settings import Settings

UNDO_S = 10.0


def router(settings: Settings, routes: Routes) -> APIRouter:
    """All routes of the management API."""
    api = APIRouter(tags=["management"], responses=openapi.ERRORS)
    handlers = Management(settings, routes)
    restricted = [Depends(handlers.check_enabled)]
    model, version = "/models/{model_name}", "/models/{model_name}/{model_version}"
    api.get("/models")(handlers.list_models)
    api.post(
        "/models",
        dependencies=restricted,
        responses=openapi.REGISTERED,
        openapi_extra=openapi.register_operation(),
    )(handlers.register)
    for path in (model, version):
        api.get(path)(handlers.describe)
        api.put(path, responses=openapi.STARTED)(handlers.scale)
        api.post(f"{path}/reload", responses=openapi.STARTED)(handlers.reload)
        api.delete(path, dependencies=restricted, responses=openapi.UNREGISTERED)(handlers.unregister)
    api.put(f"{version}/set-default")(handlers.set_default)
    api.options(model)(handlers.document)
    return api


class Management:
    """The handlers; method names and their first lines appear in the OpenAPI document."""

    def __init__(self, settings: Settings, routes: Routes) -> None:
        self._settings, self._routes = settings, routes
        self._registry = Registry(connection.client(settings.redis_url))
        self._gpus = len(gpus.visible(settings.number_of_gpu))

    def check_enabled(self) -> None:
        """Raises MethodNotAllowed unless models may be registered and unregistered."""
        if not self._settings.enable_model_api:
            raise MethodNotAllowed

    def list_models(self, limit: Limit = None, next_page_token: PageToken = None) -> Response:
        """The models, sorted by name, in pages."""
        models = self._registry.models()
        names = sorted(name for name in models.defaults if name in models.specs)
        size = PAGE if limit is None or not 0 <= limit <= PAGE else limit
        first = max(0, next_page_token or 0)
        page = [models.get(name) for name in names[first : first + size]]
        token = {"nextPageToken": str(first + size)} if first + size <= len(names) else {}
        return _json({**token, "models": [{"modelName": m.name, "modelUrl": m.url} for m in page]})

    def describe(
        self, model_name: str, model_version: ModelVersion = None, customized: Customized = False
    ) -> Response:
        """The settings and replicas of a version; of all versions for the version `all`."""
        models = self._registry.models()
        if model_version == "all":
            versions = models.versions(model_name)
            return _json([self._described(versions[version]) for version in sorted(versions)])
        spec = models.get(model_name, model_version)
        metadata = {"customizedMetadata": ask_handler(self._registry, spec)} if customized else {}
        return _json([self._described(spec) | metadata])

    async def register(self, request: Request) -> Response:
        """Registers a model version, and starts its replicas."""
        if content_type(request.scope["headers"]).partition(b";")[0].strip().lower() == b"application/json":
            body = await read_body(request.scope, request.receive, self._settings.max_request_size)
            parameters = openapi.register_parameters(openapi.json_object(body))
        else:
            parameters = openapi.register_parameters(dict(request.query_params))
        return await anyio.to_thread.run_sync(self._register, parameters)

    def scale(
        self,
        model_name: str,
        model_version: ModelVersion = None,
        min_worker: MinWorker = None,
        max_worker: MaxWorker = None,
        synchronous: Synchronous = False,
        timeout: Timeout = None,
    ) -> Response:
        """Sets how many replicas a version has."""
        fewest = 1 if min_worker is None else min_worker
        most = fewest if max_worker is None else max_worker
        if most < fewest:
            raise BadRequest("max_worker cannot be less than min_worker.")
        spec = self._registry.models().get(model_name, model_version)
        failing = any(report["failures"] for report in self._registry.live_reports(spec).values())
        spec = self._registry.scale(spec, fewest, most, anew=failing)
        self._refresh()
        if not synchronous:
            return _status("Processing worker updates...", 202)
        ready, reason = wait_for_workers(self._registry, spec, timeout)
        if not reason:
            version = f", version: {model_version}" if model_version else ""
            return _status(f"Workers scaled to {fewest} for model: {model_name}{version}")
        if ready:
            return _status("Workers scaling in progress...", 206)
        raise _start_failed(model_name, model_version or "null", reason)

    def reload(
        self,
        model_name: str,
        model_version: ModelVersion = None,
        synchronous: Synchronous = False,
        timeout: Timeout = None,
    ) -> Response:
        """Replaces all replicas of a version, each when its successor is ready."""
        spec = self._registry.reload(self._registry.models().get(model_name, model_version))
        if not synchronous:
            return _status("Processing worker updates...", 202)
        return self._reloaded(spec, wait_for_workers(self._registry, spec, timeout))

    def _reloaded(self, spec: ModelSpec, outcome: tuple[int, str]) -> Response:
        ready, reason = outcome
        if not reason:
            return _status(f"Workers reloaded for model: {spec.name}, version: {spec.version}")
        if ready:
            return _status("Workers reloading in progress...", 206)
        raise _start_failed(spec.name, spec.version, reason)

    def set_default(self, model_name: str, model_version: str) -> Response:
        """Makes a version the one that requests without a version get."""
        self._registry.set_default(model_name, model_version)
        self._refresh()
        return _status(f'Default version successfully updated for model "{model_name}" to "{model_version}"')

    def unregister(
        self, model_name: str, model_version: ModelVersion = None, timeout: Timeout = None
    ) -> Response:
        """Stops the replicas of a version and forgets it; what is still queued is answered with 503."""
        spec = self._registry.models().get(model_name, model_version)
        self._remove(spec, timeout or self._settings.unregister_model_timeout)
        return _status(f'Model "{model_name}" unregistered')

    def document(self, request: Request, model_name: str) -> Response:
        """The OpenAPI document of one model."""
        self._registry.models().versions(model_name)
        title = f"RESTful Management API for: {model_name}"
        return _json(model_document(request.app.openapi(), model_name, title, "/models/"))

    def _register(self, parameters: openapi.RegisterParameters) -> Response:
        spec = resolve(self._settings, parameters.registration())
        began = self._registry.now()
        try:
            self._registry.register(spec)
        except Conflict:
            remove_download(model_store(self._settings), self._registry, spec)
            raise
        self._refresh()
        if spec.has_dependencies and (reason := wait_for_dependencies(self._registry, spec, began)):
            self._undo(spec)
            raise ModelFailed(reason)
        subject = f'Model "{spec.name}" Version: {spec.version} registered with'
        if not spec.min_workers:
            return _status(
                f"{subject} 0 initial workers. Use scale workers API to add workers for the model."
            )
        if not parameters.synchronous:
            return _status("Processing worker updates...", 202)
        ready, reason = wait_for_workers(self._registry, spec)
        if not reason:
            return _status(f"{subject} {spec.min_workers} initial workers")
        if ready:
            return _status("Workers scaling in progress...", 206)
        self._undo(spec)
        raise _start_failed(spec.name, spec.version, reason)

    def _undo(self, spec: ModelSpec) -> None:
        with contextlib.suppress(RequestTimeout, InvalidModelVersion):
            self._remove(spec, UNDO_S)

    def _remove(self, spec: ModelSpec, timeout_s: float) -> None:
        """Raises InvalidModelVersion, or RequestTimeout if its pools do not end; then it stays."""
        self._registry.unregister(spec)
        self._refresh()
        try:
            wait_until_stopped(self._registry, spec, timeout_s)
        except RequestTimeout:
            self._registry.put(spec)
            self._refresh()
            raise
        clear(self._registry, spec, self._settings.job_result_ttl_s)
        remove_download(model_store(self._settings), self._registry, spec)

    def _refresh(self) -> None:
        """Whoever gets the answer may at once use what has changed."""
        anyio.from_thread.run(self._routes.refresh)

    def _described(self, spec: ModelSpec) -> dict[str, Any]:
        reports = list(self._registry.live_reports(spec).values())
        return openapi.description(spec, reports, self._registry.waiting(spec), self._gpus)


def _start_failed(name: str, version: str, reason: str) -> ServiceError:
    """500, or 507 if the handler ran out of memory (of the device, too), as TorchServe judges it."""
    text = f"Failed to start workers for model {name} version: {version}\n{reason}"
    last = next((line for line in reversed(reason.splitlines()) if line.strip()), "")
    memory = last.startswith("MemoryError") or (last.startswith("RuntimeError") and "CUDA" in last)
    return ServiceError(text, 507 if memory else None)


def _json(value: Any, status: int = 200) -> Response:
    return Response(pretty(value), status, media_type="application/json")


def _status(text: str, status: int = 200) -> Response:
    return _json({"status": text}, status)
