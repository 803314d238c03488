"""Which requests go to which lane: the registry, precomputed for the request path."""

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import redis.asyncio

from marq import connection, keys
from marq.errors import ModelNotFound, ModelVersionNotFound, ResourceNotFound, ServiceUnavailable
from marq.registry import HEARTBEAT_S, Models, ModelSpec, Registry

log = logging.getLogger(__name__)

NO_WORKER = (
    '{subject} has no worker to serve inference request. Please use scale workers API to add workers. '
    "If this is a sequence inference, please check if it is closed, or expired; "
    "or exceeds maxSequenceJobQueueSize"
)  # fmt: skip


class Route:
    """Where requests for one model version go, and what refuses them."""

    __slots__ = ("client_timeout_ms", "lane", "spec", "unavailable")

    def __init__(self, spec: ModelSpec, versioned: bool) -> None:
        self.spec = spec
        self.lane = keys.lane(spec.name, spec.version).encode()
        self.client_timeout_ms = spec.client_timeout_ms
        subject = f'Model "{spec.name}" Version {spec.version}"' if versioned else f'Model "{spec.name}"'
        self.unavailable = "" if spec.min_workers else NO_WORKER.format(subject=subject)

    def check(self) -> None:
        """Raises ServiceUnavailable if nothing would ever take the request."""
        if self.unavailable:
            raise ServiceUnavailable(self.unavailable)


class Routes:
    """All routes; kept up to date with the registry."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._registry = Registry(connection.client(url))
        self._by_name: dict[str, dict[str | None, Route]] = {}
        self.urls: dict[bytes, Route] = {}  # "/predictions/model[/version]" -> route
        self.healthy = True  # whether no default version has been failing for longer than it may

    async def refresh(self) -> None:
        """Reads the registry. Raises redis.RedisError."""
        models = await asyncio.to_thread(self._registry.models)
        self._use(models)
        self.healthy = await asyncio.to_thread(self._judge, models)

    async def follow(self) -> None:
        """Refreshes whenever the registry changes, and every second in any case; never returns."""
        client: Any = redis.asyncio.Redis.from_url(self._url, protocol=2)
        seen: bytes | str = "$"
        while True:
            try:
                if found := await client.xread({keys.MANAGEMENT: seen}, block=int(HEARTBEAT_S * 1000)):
                    seen = found[0][1][-1][0]
                await self.refresh()
            except redis.RedisError as error:
                log.warning("the registry cannot be read: %s", error)
                await asyncio.sleep(HEARTBEAT_S)

    def find(self, model: str, version: str | None = None) -> Route:
        """The route of a version, or of the default one. Raises ModelNotFound or ModelVersionNotFound."""
        versions = self._by_name.get(model)
        if versions is None:
            raise ModelNotFound(f"Model not found: {model}")
        if version not in versions:
            raise ModelVersionNotFound(f"Model version: {version} does not exist for model: {model}")
        return versions[version]

    def find_path(self, path: str) -> tuple[Route, bytes]:
        """(route, rest of the path) for any spelling of `/predictions/model[/version[/rest]]`.

        Raises ResourceNotFound, ModelNotFound or ModelVersionNotFound.
        """
        segments = [segment for segment in path.split("/") if segment]
        if len(segments) < 2:
            raise ResourceNotFound
        version = segments[2] if len(segments) > 2 else None
        return self.find(segments[1], version), "/".join(segments[3:]).encode()

    def _judge(self, models: Models) -> bool:
        now = time.time()
        for name in models.defaults:
            spec = models.get(name)
            for report in self._registry.reports(spec).values():
                since = report.get("failing_since")
                if since and now - since > spec.max_retry_timeout_s:
                    return False
        return True

    def _use(self, models: Models) -> None:
        by_name: dict[str, dict[str | None, Route]] = {}
        for spec in models:
            by_name.setdefault(spec.name, {})[spec.version] = Route(spec, versioned=True)
        for name, version in models.defaults.items():
            if name in by_name and version in by_name[name]:
                by_name[name][None] = Route(by_name[name][version].spec, versioned=False)
        self._by_name = by_name
        self.urls = dict(_urls(by_name))


def _urls(by_name: dict[str, dict[str | None, Route]]) -> Iterator[tuple[bytes, Route]]:
    for name, versions in by_name.items():
        for version, route in versions.items():
            yield (f"/predictions/{name}" + (f"/{quote(version)}" if version else "")).encode(), route
