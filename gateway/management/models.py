"""The management API: register, describe, scale, set-default, unregister; TorchServe's routes and texts.

Handlers are plain functions that talk to Redis and run in threads.
"""

import contextlib
import logging

import anyio.from_thread
from fastapi import APIRouter, Depends, Request, Response

from gateway.asgi import Document, content_type
from gateway.management import description
from gateway.management import parameters as openapi
from gateway.management.describe_handler import ask_handler
from gateway.management.parameters import PAGE, Customized, Limit, ModelVersion, PageToken, Timeout
from gateway.management.responses import json_answer, outcome
from gateway.management.scaling import Scaling
from gateway.management.waiting import WaitingRequests
from gateway.openapi import model_document
from gateway.routing.routes import Routes
from gateway.unused_parameters import GIVEN, MOST, add_warning, refuse_mistaken
from gateway.uploads import Uploads
from marq import gpus
from marq.connections import clients
from marq.control.capacity import Capacity
from marq.control.readiness import (
    start_failed,
    wait_for_dependencies,
    wait_for_gateways,
    wait_for_workers,
    wait_until_stopped,
)
from marq.control.registration import model_store, resolve
from marq.control.removal import clear, remove_download
from marq.errors import (
    MODEL_API_OFF,
    BadRequest,
    Conflict,
    InvalidModel,
    InvalidModelVersion,
    MethodNotAllowed,
    ModelFailed,
    RequestTimeout,
)
from marq.queue import depth
from marq.registry.models import Registry
from marq.registry.notices import notices
from marq.registry.sizes import hosts
from marq.registry.snapshot import Models
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings

log = logging.getLogger(__name__)

UNDO_S = 10.0


def router(settings: Settings, routes: Routes) -> APIRouter:
    """All routes of the management API."""
    api = APIRouter(tags=["management"], responses=openapi.ERRORS)
    registry = Registry(clients.client(settings.redis_url))
    handlers = Management(settings, routes, registry)
    scaling, waiting = Scaling(registry, handlers.capacity, handlers.refresh), handlers.waiting
    describe = waiting.handler(handlers.describe, "customized")
    scale, reload = (waiting.handler(each, "synchronous") for each in (scaling.scale, scaling.reload))
    unregister, set_default = waiting.handler(handlers.unregister), waiting.handler(handlers.set_default)
    restricted, unmistaken = Depends(handlers.check_enabled), Depends(refuse_mistaken)
    model, version = "/models/{model_name}", "/models/{model_name}/{model_version}"
    api.get("/models")(handlers.list_models)
    api.post(
        "/models",
        dependencies=[restricted],
        responses=openapi.REGISTERED,
        openapi_extra=openapi.register_operation(),
    )(handlers.register)
    for path in (model, version):
        api.get(path, responses=description.DESCRIBED)(describe)
        api.put(path, dependencies=[unmistaken], responses=openapi.STARTED)(scale)
        api.post(f"{path}/reload", responses=openapi.STARTED)(reload)
        api.delete(path, dependencies=[restricted, unmistaken], responses=openapi.UNREGISTERED)(unregister)
    api.put(f"{version}/set-default")(set_default)
    api.options(model)(handlers.document)
    return api


class Management:
    """The handlers; method names and their first lines appear in the OpenAPI document."""

    def __init__(self, settings: Settings, routes: Routes, registry: Registry) -> None:
        self._settings, self._routes = settings, routes
        self._registry, self.waiting = registry, WaitingRequests()
        self._uploads = Uploads.of_management(settings)
        self._gpus = len(gpus.visible(settings.number_of_gpu))
        self.capacity = Capacity(registry, self._gpus)
        self._has_said_off = False

    def check_enabled(self) -> None:
        """Raises MethodNotAllowed unless models may be registered and unregistered.

        The text of the answer is TorchServe's; the log says, once, how to switch it on.
        """
        if self._settings.enable_model_api:
            return
        if not self._has_said_off:
            self._has_said_off = True
            log.warning("a request is refused. %s", MODEL_API_OFF)
        raise MethodNotAllowed

    def list_models(self, limit: Limit = None, next_page_token: PageToken = None) -> Response:
        """The models, sorted by name, in pages."""
        models = self._registry.models()
        listed = {spec.name for spec in models if not spec.workflow}  # nodes are hidden, as in TorchServe
        names = sorted(name for name in models.defaults if name in listed)
        size = PAGE if limit is None or not 0 <= limit <= PAGE else limit
        first = max(0, next_page_token or 0)
        page = [models.get(name) for name in names[first : first + size]]
        token = {"nextPageToken": str(first + size)} if first + size <= len(names) else {}
        return json_answer({**token, "models": [{"modelName": m.name, "modelUrl": m.url} for m in page]})

    def describe(
        self, model_name: str, model_version: ModelVersion = None, customized: Customized = False
    ) -> Response:
        """The settings and replicas of a version; of all versions for the version `all`."""
        models = self._registry.models()
        if model_version == "all":
            versions = models.versions(model_name)
            return json_answer([self._described(models, versions[version]) for version in sorted(versions)])
        spec = models.get(model_name, model_version)
        metadata = {"customizedMetadata": ask_handler(self._registry, spec)} if customized else {}
        return json_answer([self._described(models, spec) | metadata])

    async def register(self, request: Request) -> Response:
        """Registers a model version, and starts its replicas."""
        if content_type(request.scope["headers"]).partition(b";")[0].strip().lower() == b"application/json":
            body = await self._uploads.read(request.scope, request.receive)
            request.scope[GIVEN] = given = openapi.json_object(body)
        else:
            given = dict(request.query_params)
        return await self.waiting.run(self._register, openapi.register_parameters(given))

    def set_default(self, model_name: str, model_version: str) -> Response:
        """Makes a version the one that requests without a version get."""
        changed = self._registry.set_default(model_name, model_version)
        self.refresh()
        wait_for_gateways(self._registry, changed)
        return outcome(f'Default version successfully updated for model "{model_name}" to "{model_version}"')

    def unregister(
        self, model_name: str, model_version: ModelVersion = None, timeout: Timeout = None
    ) -> Response:
        """Stops the replicas of a version and removes it; queued requests are answered with 503."""
        spec = self._registry.models().get(model_name, model_version)
        self._remove(spec, timeout or self._settings.unregister_model_timeout)
        return outcome(f'Model "{model_name}" unregistered')

    def document(self, request: Request, model_name: str) -> Response:
        """The OpenAPI document of one model."""
        self._registry.models().versions(model_name)
        title = f"RESTful Management API for: {model_name}"
        return json_answer(model_document(request.app.openapi(), model_name, title, "/models/"))

    def _register(self, parameters: openapi.RegisterParameters) -> Response:
        spec = resolve(self._settings, parameters.registration())
        began = self._registry.now()
        try:
            if not parameters.force:
                self.capacity.check(spec.max_workers)
                self.capacity.check_devices(spec)
            registered = self._registry.register(spec)
        except (BadRequest, Conflict, InvalidModel):
            remove_download(model_store(self._settings), self._registry, spec)
            raise
        self.refresh()
        response = self._started(spec, parameters, began, registered)
        for sentence in spec.config_notices[:MOST]:
            add_warning(response, sentence)
        return response

    def _started(
        self, spec: ModelSpec, parameters: openapi.RegisterParameters, began: float, registered: float
    ) -> Response:
        """The outcome, when its replicas are ready; it is unregistered if they cannot be."""
        if spec.has_dependencies and (reason := wait_for_dependencies(self._registry, spec, began)):
            self._undo(spec)
            raise ModelFailed(reason)
        subject = f'Model "{spec.name}" Version: {spec.version} registered with'
        if not (spec.min_workers and parameters.synchronous):
            wait_for_gateways(self._registry, registered)
        if spec.may_rest:
            return outcome(f"{subject} 0 initial workers. The first request starts one.")
        if not spec.min_workers:
            return outcome(
                f"{subject} 0 initial workers. Use scale workers API to add workers for the model."
            )
        if not parameters.synchronous:
            return outcome("Processing worker updates...", 202)
        ready, reason = wait_for_workers(self._registry, spec)
        if not reason:
            return outcome(f"{subject} {spec.min_workers} initial workers")
        if ready:
            return outcome("Workers scaling in progress...", 206)
        self._undo(spec)
        raise start_failed(spec.name, spec.version, reason)

    def _undo(self, spec: ModelSpec) -> None:
        with contextlib.suppress(RequestTimeout, InvalidModelVersion):
            self._remove(spec, UNDO_S)

    def _remove(self, spec: ModelSpec, timeout_s: float) -> None:
        """Raises InvalidModelVersion, or RequestTimeout if its pools do not end; then it stays."""
        unregistered = self._registry.unregister(spec)
        self.refresh()
        try:
            wait_until_stopped(self._registry, spec, unregistered, timeout_s)
        except RequestTimeout:
            with contextlib.suppress(Conflict):  # it was registered again by another request
                self._registry.register(spec)
            self.refresh()
            raise
        clear(self._registry, spec, self._settings.job_result_ttl_s)
        remove_download(model_store(self._settings), self._registry, spec)

    def refresh(self) -> None:
        """Makes the change visible to this gateway before the answer is sent."""
        anyio.from_thread.run(self._routes.refresh)

    def _described(self, models: Models, spec: ModelSpec) -> Document:
        client = self._registry.redis
        reports = list(self._registry.live_reports(spec).values())
        waiting = depth.read(client, [spec])[spec.key].waiting
        said = notices(spec, reports, models.size(spec), hosts.read(client))
        described = description.description(spec, reports, waiting, self._gpus, said)
        return described | description.scaling(spec, models)
