"""The services of each gRPC server of a gateway process."""

from typing import NamedTuple

import grpc
from starlette.types import ASGIApp

from gateway.grpc import inference, management, open_inference, probes, service_names
from gateway.grpc.arrivals import Arrivals
from gateway.grpc.calls import Calls, Method
from gateway.grpc.inference import InferenceService
from gateway.grpc.management import ManagementService
from gateway.grpc.open_inference import OpenInferenceService
from gateway.grpc.probes import Probes
from gateway.http.access_log import AccessLog
from gateway.in_process import Application
from gateway.inference.predictor import Predictor
from gateway.metrics.counting import RequestMeter
from gateway.routing.routes import Routes
from marq.settings.fields import Settings


class Services(NamedTuple):
    """The services of one server; the names are for reflection."""

    names: list[str]
    handlers: list[grpc.GenericRpcHandler]


class Planes:
    """Makes the services; they share the parts that a gateway process has once."""

    def __init__(
        self, settings: Settings, predictor: Predictor, routes: Routes, meter: RequestMeter,
        access_log: AccessLog | None,
    ) -> None:  # fmt: skip
        self._settings, self._predictor, self._routes, self._meter = settings, predictor, routes, meter
        self._calls = Calls(meter, access_log, Arrivals.of(settings))

    def inference(self) -> Services:
        """The services of the inference address."""
        torchserve = InferenceService(self._predictor, self._routes.health, self._meter, self._settings)
        protocol = OpenInferenceService(self._predictor, self._routes)
        if self._settings.enable_grpc_reflection:
            service_names.describe()
        return self._with_health(
            {inference.NAME: torchserve.methods(), **dict.fromkeys(open_inference.NAMES, protocol.methods())}
        )

    def management(self, app: ASGIApp) -> Services:
        """The services of the management address; `app` is the application of the REST API."""
        return self._with_health({management.NAME: ManagementService(Application(app)).methods()})

    def _with_health(self, services: dict[str, dict[str, Method]]) -> Services:
        if self._settings.enable_grpc_health:
            names = [*services, probes.NAME]
            services = {**services, probes.NAME: Probes(self._routes.health, names).methods()}
        handlers = [self._calls.service(name, methods) for name, methods in services.items()]
        return Services(list(services), handlers)
