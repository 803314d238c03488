"""`grpc.health.v1`: the health of the server, for probes. They need no token."""

import asyncio
from collections.abc import Iterable

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from gateway.grpc import failures
from gateway.grpc.calls import Call, Method
from gateway.grpc.failures import Failure
from gateway.metrics.counting import OTHER
from gateway.routing.health import Health

NAME = "grpc.health.v1.Health"
LOOK_EVERY_S = 1.0


class Probes:
    """Every service is as healthy as the server, whose name is empty."""

    def __init__(self, health: Health, services: Iterable[str]) -> None:
        self._health, self._services = health, frozenset(("", *services))

    def methods(self) -> dict[str, Method]:
        """The methods by their names."""
        both = HealthCheckRequest, HealthCheckResponse
        return {
            "Check": Method(self._check, *both, OTHER),
            "Watch": Method(self._watch, *both, OTHER, (False, True)),
        }

    async def _check(self, request: HealthCheckRequest, _call: Call) -> HealthCheckResponse:
        if request.service not in self._services:
            raise Failure(failures.Code.NOT_FOUND, f"Service not found: {request.service}", 404)
        return HealthCheckResponse(status=self._state(request.service))

    async def _watch(self, request: HealthCheckRequest, call: Call) -> None:
        """A message for each change; ends with the call, or after the one that the server stops."""
        known, is_last = None, False
        while not is_last:
            is_last = self._health.is_stopping
            if (state := self._state(request.service)) != known:
                known = state
                await call.write(HealthCheckResponse(status=state))
            await asyncio.sleep(LOOK_EVERY_S)

    def _state(self, service: str) -> int:
        if service not in self._services:
            return int(HealthCheckResponse.SERVICE_UNKNOWN)
        good = self._health.is_good
        return int(HealthCheckResponse.SERVING if good else HealthCheckResponse.NOT_SERVING)
