"""KServe and the Open Inference Protocol over HTTP: models, versions and their readiness."""

from fastapi import APIRouter, Response

from gateway.asgi import Responses
from gateway.routing.routes import Routes
from marq.errors import pretty
from ts import __version__ as torchserve_version

EXTENSIONS = ["kserve", "kubeflow"]
PLATFORM = "pytorch_mar"
NOT_READY: Responses = {503: {"description": "Not ready: the body is the same, with `false`."}}

NOT_ALL_READY: Responses = {
    503: {
        "description": "`missing` names the versions without a ready replica, `unplaced` says which replicas "
        "have no device, `reason` how Redis fails."
    }
}


def not_ready(routes: Routes) -> list[str]:
    """The default versions with `minWorkers` above 0 and without a ready replica. Raises redis.RedisError."""
    models = routes.models()
    wanted = [models.get(name) for name in models.defaults if name in models.specs]
    return sorted(spec.key for spec in wanted if spec.min_workers and not routes.is_ready(spec))


def model_versions(routes: Routes, model: str, version: str | None) -> tuple[str, list[str]]:
    """The name of a model, and its versions, or the one that is asked for.

    Raises ModelNotFound, ModelVersionNotFound or redis.RedisError.
    """
    known = routes.models()
    spec = known.get(model, version)
    return spec.name, [spec.version] if version else sorted(known.versions(model))


def readiness(routes: Routes) -> APIRouter:
    """Version 1 of the protocol; TorchServe has it on the management address."""
    api = APIRouter(tags=["KServe"])

    @api.get("/v1/models/{model_name}")
    def model_readiness(model_name: str) -> Response:
        """Whether a replica of the default version is ready; 200 in any case."""
        spec = routes.models().get(model_name)
        return _json({"name": model_name, "ready": routes.is_ready(spec)})

    return api


def router(routes: Routes) -> APIRouter:
    """Everything but the routes that run a model."""
    api = APIRouter(tags=["KServe"])
    model, version = "/v2/models/{model_name}", "/v2/models/{model_name}/versions/{model_version}"

    @api.get("/v1/models")
    def models() -> Response:
        """The names of all models."""
        return _json({"models": sorted(routes.models().defaults)})

    @api.get("/v2")
    async def server_metadata() -> Response:
        """Name, version and extensions of the server."""
        # TorchServe's misspelt key is kept next to the protocol's
        extensions = {"extenstion": EXTENSIONS, "extensions": EXTENSIONS}
        return _json({"name": "Torchserve", "version": torchserve_version, **extensions})

    @api.get("/v2/health/live")
    async def server_live() -> Response:
        """Whether the server answers."""
        return _json({"live": True})

    @api.get("/v2/health/ready", responses=NOT_ALL_READY)
    def server_ready() -> Response:
        """Whether each default version with `minWorkers` above 0 has a ready replica, and Redis works."""
        if routes.health.failure:
            return _json({"ready": False, "reason": routes.health.failure}, 503)
        said = {"unplaced": routes.unplaced} if routes.unplaced else {}
        if missing := not_ready(routes):
            return _json({"ready": False, "missing": missing, **said}, 503)
        return _json({"ready": True, **said})

    @api.get(model)
    @api.get(version)
    def model_metadata(model_name: str, model_version: str | None = None) -> Response:
        """Name and versions of a model; inputs and outputs are empty: only the handler knows them."""
        name, versions = model_versions(routes, model_name, model_version)
        return _json({"name": name, "versions": versions, "platform": PLATFORM, "inputs": [], "outputs": []})

    @api.get(f"{model}/ready", responses=NOT_READY)
    @api.get(f"{version}/ready", responses=NOT_READY)
    def model_ready(model_name: str, model_version: str | None = None) -> Response:
        """Whether a replica of the version is ready."""
        spec = routes.models().get(model_name, model_version)
        ready = routes.is_ready(spec)
        return _json({"name": model_name, "ready": ready}, 200 if ready else 503)

    return api


def _json(value: object, status: int = 200) -> Response:
    return Response(pretty(value), status, media_type="application/json")
