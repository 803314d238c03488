"""Which requests go to which lane: the registry, precomputed for the request path."""

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from urllib.parse import quote

import hiredis
import redis

from gateway.routing.health import Health
from gateway.routing.queue_watch import Backlogs
from gateway.routing.route import Failure, Route
from marq import keys
from marq.connections import clients
from marq.connections.commands import AsyncRedisClient
from marq.errors import ModelNotFound, ModelVersionNotFound, ServiceUnavailable
from marq.payloads.place import Place
from marq.registry.memory import Memory
from marq.registry.models import HEARTBEAT_S, Registry
from marq.registry.notices import cannot_load
from marq.registry.sizes import placement
from marq.registry.snapshot import Models, Snapshot
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings

log = logging.getLogger(__name__)


class Routes:
    """All routes; kept up to date with the registry."""

    def __init__(self, config: Settings, place: Place | None = None) -> None:
        """`place`: of the payload files of this gateway."""
        self._place = place
        self._url = url = config.redis_url
        self.backlogs = Backlogs(config.max_queued_jobs, config.max_queued_bytes)
        self._registry = Registry(clients.client(url))
        self._memory = Memory(self._registry)
        self._by_name: dict[str, dict[str | None, Route]] = {}
        self._used: tuple[Models, dict[str, Failure], set[str], set[str]] | None = None  # behind the routes
        self._idle: list[ModelSpec] = []  # the versions without a ready replica
        self.unplaced: list[str] = []  # a sentence for each version with replicas without a device
        self._moment = 0.0  # of the snapshot behind the routes
        self._refreshes = itertools.count(1)
        self._used_refresh = 0
        self.urls: dict[bytes, Route] = {}  # "/predictions/model[/version]" -> route
        self.startup_models: list[str] = []
        self.health = Health()

    async def refresh(self) -> float:
        """Reads the registry, which is written again if Redis has lost it. Raises redis.RedisError.

        Returns a moment by Redis's clock: the routes are as the registry was then.
        """
        number = next(self._refreshes)
        snapshot = await asyncio.to_thread(self._memory.snapshot)
        if number > self._used_refresh:  # else one that began later was faster, and read newer things
            self._used_refresh, self._moment = number, snapshot.moment
            self.health.note(snapshot)
            self._use(snapshot)
            self.unplaced = placement.all_unplaced(snapshot)
            self._idle = [
                spec for spec in snapshot.models if not any(r.is_ready for r in snapshot.replicas(spec))
            ]
        return self._moment

    async def follow(self, refreshed: Callable[[float], Awaitable[None]]) -> None:
        """Refreshes whenever the registry changes, and every second in any case; never returns.

        `refreshed` is called each time, too, with the moment of the refresh: the management stream reports
        more than models.
        """
        client = clients.asynchronous_client(self._url)
        seen: bytes | str = ""
        fails = False
        self.health.begin()
        while True:
            try:
                # Not "$": changes during a refresh would be missed.
                seen = seen or await _newest_change(client)
                if found := await client.xread({keys.MANAGEMENT: seen}, block=int(HEARTBEAT_S * 1000)):
                    seen = found[0][1][-1][0]
                await refreshed(await self.refresh())
            except (redis.RedisError, hiredis.ReplyError, ServiceUnavailable) as error:
                if not fails:
                    log.warning("the registry cannot be followed, trying until it can: %s", error)
                fails = True
                self.health.refuse(error)
                await asyncio.sleep(HEARTBEAT_S)
            else:
                fails = False
                self.health.accept()

    def find(self, model: str, version: str | None = None) -> Route:
        """The route of a version, or of the default one. Raises ModelNotFound or ModelVersionNotFound."""
        versions = self._by_name.get(model)
        if versions is None:
            raise ModelNotFound(f"Model not found: {model}")
        if version not in versions:
            raise ModelVersionNotFound(f"Model version: {version} does not exist for model: {model}")
        return versions[version]

    def failing(self) -> list[Route]:
        """The routes of all versions that cannot be loaded at the moment."""
        versions = (route for routes in self._by_name.values() for name, route in routes.items() if name)
        return [route for route in versions if route.failure]

    def unserved(self) -> list[ModelSpec]:
        """The versions with queued requests and without a ready replica."""
        return [spec for spec in self._idle if self.backlogs.of(spec).waiting]

    @property
    def registered(self) -> Models | None:
        """The registry as the routes have it; None before the first refresh."""
        return self._used[0] if self._used else None

    def models(self) -> Models:
        """The registry as it is now. Raises redis.RedisError."""
        return self._memory.models()

    def is_ready(self, spec: ModelSpec) -> bool:
        """Whether the version answers requests: it rests, or a replica is ready. Raises redis.RedisError."""
        return spec.may_rest or any(replica.is_ready for replica in self._registry.replicas(spec))

    def _use(self, snapshot: Snapshot) -> None:
        models, failures = snapshot.models, _find_failures(snapshot)
        sharing, keeping = self._find_sharing(snapshot), self._find_keeping(snapshot)
        if (models, failures, sharing, keeping) == self._used:  # quick: an unchanged spec is the same object
            return
        self._make_routes(models, failures, sharing, keeping)
        final = {key for key, failure in failures.items() if failure.is_final}
        self.health.is_failing = any(
            f"{name}/{version}" in final for name, version in models.defaults.items()
        )
        self._used = models, failures, sharing, keeping

    def _find_sharing(self, snapshot: Snapshot) -> set[str]:
        """The versions all of whose pools see the payload files of this gateway, by their keys."""
        own = self._place.identity if self._place else ""
        if not own:
            return set()
        return {
            spec.key
            for spec in snapshot.models
            if (reports := snapshot.of(spec)) and all(report.payloads == own for report in reports)
        }

    def _find_keeping(self, snapshot: Snapshot) -> set[str]:
        """The versions none of whose pools has another store of job files than this gateway."""
        own = self._place.jobs.identity if self._place and self._place.jobs else ""
        if not own:
            return set()
        return {
            spec.key
            for spec in snapshot.models
            if all(report.job_payloads == own for report in snapshot.of(spec) if report.preparing is None)
        }

    def _make_routes(
        self, models: Models, failures: dict[str, Failure], sharing: set[str], keeping: set[str]
    ) -> None:
        by_name: dict[str, dict[str | None, Route]] = {}
        for spec in models:
            by_name.setdefault(spec.name, {})[spec.version] = Route(
                spec, True, self.backlogs.of(spec), failures.get(spec.key), spec.key in sharing,
                spec.key in keeping,
            )  # fmt: skip
        for name, version in models.defaults.items():
            if name in by_name and version in by_name[name]:
                named = by_name[name][version]
                by_name[name][None] = Route(
                    named.spec, False, named.backlog, named.failure, named.shares_files, named.keeps_files
                )  # fmt: skip
        registered = {spec.key for spec in models}
        self.backlogs.keep(registered)
        for route in (route for routes in self._by_name.values() for route in routes.values()):
            if route.spec.key not in registered:
                route.end()
        self._by_name = by_name
        self.startup_models = sorted({spec.name for spec in models if spec.loaded_at_startup})
        self.urls = dict(_urls(by_name))


def _find_failures(snapshot: Snapshot) -> dict[str, Failure]:
    """The versions that cannot be loaded at the moment, by their keys."""
    now, failures = time.time(), {}
    for spec in snapshot.models:
        reports = snapshot.of(spec)
        failing = [(report.failing_since, report.reason) for report in reports if report.failing_since]
        if not failing or any(replica.is_ready for replica in snapshot.replicas(spec)):
            continue
        since, reason = min(failing)
        is_final = now - since > spec.max_retry_timeout_s
        if is_final or all(report.cannot_load for report in reports):
            failures[spec.key] = Failure(cannot_load(spec, reason), is_final)
    return failures


async def _newest_change(client: AsyncRedisClient) -> bytes | str:
    newest = await client.xrevrange(keys.MANAGEMENT, count=1)
    return newest[0][0] if newest else "0"


def _urls(by_name: dict[str, dict[str | None, Route]]) -> Iterator[tuple[bytes, Route]]:
    for name, versions in by_name.items():
        for version, route in versions.items():
            path = f"/predictions/{quote(name)}" + (f"/{quote(version)}" if version else "")
            yield path.encode(), route
