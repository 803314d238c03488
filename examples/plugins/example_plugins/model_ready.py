"""`GET /model-ready`: whether every registered model has a replica that can answer."""

import json

from fastapi import APIRouter, Response

from marq.plugins.protocols import Server


class ModelReady:
    """TorchServe's example of an endpoint plugin: 200 or 503, for a load balancer."""

    protocol = 1
    plane = "inference"

    def router(self, server: Server) -> APIRouter:
        api = APIRouter(tags=["health"])

        @api.get("/model-ready")
        async def model_ready() -> Response:
            """200 if there are models, and each has a ready replica; else 503."""
            models = server.models()
            is_ready = bool(models) and all([await has_replica(server, model) for model in models])
            status = "Model/s ready" if is_ready else "Model/s not ready"
            body = json.dumps({"Status": status}, indent="\t") + "\n"
            return Response(body, 200 if is_ready else 503, media_type="application/json")

        return api


async def has_replica(server: Server, model: str) -> bool:
    answer = await server.manage("GET", f"/models/{model}")
    if answer.status != 200:  # it was unregistered in the meantime
        return False
    [version] = json.loads(answer.body)
    return any(worker["status"] == "READY" for worker in version["workers"])
