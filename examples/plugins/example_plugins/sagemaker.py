"""The endpoints of TorchServe's plugin for SageMaker: execution parameters, and a health check of models."""

import json
import os

from fastapi import APIRouter, Response

from example_plugins.model_ready import has_replica
from marq.plugins.protocols import Server

MIB = 2**20


class SageMaker:
    """`/ping` is marq's own, and SageMaker may ask that; TorchServe's plugin, which waits for the first
    replica, is `/sagemaker/ping` here."""

    protocol = 1
    plane = "inference"

    def __init__(self) -> None:
        self._was_ready = False

    def router(self, server: Server) -> APIRouter:
        api = APIRouter(tags=["sagemaker"])

        @api.get("/execution-parameters")
        async def execution_parameters() -> Response:
            """What a batch transform job may send."""
            parameters = {
                "MaxConcurrentTransforms": int(os.environ.get("NUM_WORKERS", "1")),
                "BatchStrategy": "MULTI_RECORD",
                "MaxPayloadInMB": server.settings.max_request_size // MIB,
            }
            return Response(json.dumps(parameters, indent=2), media_type="application/json")

        @api.get("/sagemaker/ping")
        async def ping() -> Response:
            """503 until a model has had a replica."""
            if not self._was_ready:
                self._was_ready = any([await has_replica(server, model) for model in server.models()])
            if not self._was_ready:
                return Response("Models are not loaded", 503, media_type="text/plain")
            return Response('{\n\t"Status": "Healthy"\n}\n', media_type="application/json")

        return api
