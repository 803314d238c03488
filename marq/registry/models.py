"""The registry in Redis: models, their versions, sizes and default versions, and the reports of pools."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter

from marq import keys
from marq.connections.commands import RedisClient, RedisTransaction
from marq.connections.scripts import loads, read
from marq.errors import Conflict, InvalidModelVersion, ModelVersionNotFound
from marq.registry import changes, lanes
from marq.registry.changes import Change
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.sizes.decisions import Decision
from marq.registry.sizes.hosts import hosts_of
from marq.registry.snapshot import Models, Snapshot, models_of
from marq.registry.spec import ModelSpec

HEARTBEAT_S = 1.0
HEARTBEAT_LIMIT_S = 10.0  # a pool or node without a report for this time is lost
REPORTS = read("marq.registry", "reports")


class Registry:
    """Reads and changes the registry; every change is announced on the management stream."""

    def __init__(self, client: RedisClient) -> None:
        self.redis = client

    def models(self) -> Models:
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.REGISTRY)
            pipe.hgetall(keys.DEFAULT_VERSIONS)
            pipe.hgetall(keys.SIZES)
            pipe.execute_command("GET", keys.MARK)
            stored, defaults, sizes, mark = pipe.execute()
        return models_of(stored, defaults, sizes, mark)

    def snapshot(self) -> Snapshot:
        """The registry with all live reports, in one round trip however many models there are."""
        read_reports = REPORTS.call([keys.REGISTRY], keys.pools("%s", "%s"))
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.REGISTRY)
            pipe.hgetall(keys.DEFAULT_VERSIONS)
            pipe.hgetall(keys.SIZES)
            pipe.execute_command("GET", keys.MARK)
            pipe.execute_command("ZRANGE", keys.NODES, 0, -1)
            pipe.hgetall(keys.DEVICES)
            pipe.time()
            for command in (*loads([read_reports]), read_reports):
                pipe.execute_command(*command)
            stored, defaults, sizes, mark, nodes, devices, (seconds, microseconds), _, found = pipe.execute()
        moment = seconds + microseconds / 1e6
        alive = moment - HEARTBEAT_LIMIT_S
        reports: dict[str, list[PoolReport]] = {}
        for key, texts in found:
            by_pool = sorted(zip(texts[::2], texts[1::2], strict=True), key=itemgetter(0))
            parsed = [PoolReport.from_json(text) for _, text in by_pool]
            reports[key.decode()] = [report for report in parsed if report.reported >= alive]
        return Snapshot(models_of(stored, defaults, sizes, mark), reports, moment, hosts_of(nodes, devices))

    def current(self, spec: ModelSpec) -> ModelSpec:
        """The version as it is now; `spec` itself if it is not registered any more."""
        stored = self.redis.hget(keys.REGISTRY, spec.key)
        return ModelSpec.from_json(stored) if stored else spec

    def has(self, spec: ModelSpec) -> bool:
        """Whether the version is registered."""
        return self.redis.hget(keys.REGISTRY, spec.key) is not None

    def register(self, spec: ModelSpec) -> float:
        """Adds a version and its lanes; the first version of a model is its default. Raises Conflict.

        Returns the moment of the change, as `changes.announce` does.
        """
        lanes.create(self.redis, spec)
        if not self._add("HSETNX", spec):
            raise Conflict(f"Model version {spec.version} is already registered for model {spec.name}")
        lanes.share(self.redis, spec)
        return self.announce("register", spec)

    def put(self, spec: ModelSpec) -> None:
        """Adds a version or replaces its settings."""
        lanes.create(self.redis, spec)
        self._add("HSET", spec)
        lanes.share(self.redis, spec)
        self.announce("put", spec)

    def _add(self, command: str, spec: ModelSpec) -> bool:
        """Whether it was not registered. A model whose default version this is not has another."""
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.execute_command(command, keys.REGISTRY, spec.key, spec.to_json())
            pipe.execute_command("HSETNX", keys.DEFAULT_VERSIONS, spec.name, spec.version)
            is_new, _ = pipe.execute()
        return bool(is_new)

    def restore(self, models: Models) -> None:
        """Adds those of the versions, and of the default versions, that are missing."""
        for spec in sorted(models, key=lambda spec: models.defaults.get(spec.name) != spec.version):
            lanes.create(self.redis, spec)
            if self._add("HSETNX", spec):
                lanes.share(self.redis, spec)
        changes.announce(self.redis, {"action": "restore"})

    def marked(self) -> bytes:
        """The mark of this Redis, which it gets now unless it has one."""
        self.redis.set(keys.MARK, secrets.token_hex(8), nx=True)
        return bytes(self.redis.execute_command("GET", keys.MARK))

    def scale(self, spec: ModelSpec, min_workers: int, max_workers: int, restart: bool = False) -> Change:
        """Changes only the size of a registered version. Raises ModelVersionNotFound.

        `restart` replaces all its replicas, without regard to earlier failures.
        """

        def scaled(stored: ModelSpec) -> ModelSpec:
            generation = stored.generation + restart
            return replace(stored, min_workers=min_workers, max_workers=max_workers, generation=generation)

        return self._change("scale", spec, scaled)

    def adjust(self, spec: ModelSpec, **settings: int | list[str]) -> Change:
        """Changes these settings of a registered version. Raises ModelVersionNotFound."""

        def adjusted(stored: ModelSpec) -> ModelSpec:
            return replace(stored, **settings)  # type: ignore[arg-type]

        return self._change("scale", spec, adjusted)

    def decide(self, spec: ModelSpec, decision: Decision) -> None:
        """Sets the number of replicas of an elastic version, and wakes the nodes."""
        self.redis.hset(keys.SIZES, spec.key, decision.to_json())
        self.announce("size", spec)

    def reload(self, spec: ModelSpec) -> Change:
        """Replaces all replicas of a version, each when its successor is ready.

        Raises ModelVersionNotFound.
        """
        return self._change("reload", spec, lambda stored: replace(stored, generation=stored.generation + 1))

    def _change(self, action: str, spec: ModelSpec, change: Callable[[ModelSpec], ModelSpec]) -> Change:
        def transaction(pipe: RedisTransaction) -> ModelSpec:
            if (stored := pipe.hget(keys.REGISTRY, spec.key)) is None:
                raise ModelVersionNotFound(
                    f"Model version: {spec.version} does not exist for model: {spec.name}"
                )
            changed = change(ModelSpec.from_json(stored))
            pipe.multi()
            pipe.hset(keys.REGISTRY, spec.key, changed.to_json())
            return changed

        changed = self.redis.transaction(transaction, keys.REGISTRY, value_from_callable=True)
        return Change(changed, self.announce(action, changed))

    def set_default(self, name: str, version: str) -> float:
        """Changes the default version. Raises ModelNotFound or ModelVersionNotFound.

        Returns the moment of the change, as `changes.announce` does.
        """
        self.models().versions(name)

        def transaction(pipe: RedisTransaction) -> None:
            if pipe.hget(keys.REGISTRY, f"{name}/{version}") is None:
                raise ModelVersionNotFound(f"Model version {version} does not exist for model {name}")
            pipe.multi()
            pipe.hset(keys.DEFAULT_VERSIONS, name, version)

        self.redis.transaction(transaction, keys.REGISTRY, value_from_callable=True)
        return changes.announce(self.redis, {"action": "set-default", "model": name, "version": version})

    def unregister(self, spec: ModelSpec) -> float:
        """Removes a version; its lanes stay until their entries are answered. Raises InvalidModelVersion.

        Returns the moment of the change, as `changes.announce` does.
        """

        def transaction(pipe: RedisTransaction) -> None:
            default = (pipe.hget(keys.DEFAULT_VERSIONS, spec.name) or b"").decode()
            registered = [key.decode() for key in pipe.hkeys(keys.REGISTRY)]
            others = [key for key in registered if key.startswith(f"{spec.name}/") and key != spec.key]
            if others and default == spec.version:
                raise InvalidModelVersion(f"Cannot remove default version for model {spec.name}")
            pipe.multi()
            pipe.hdel(keys.REGISTRY, spec.key)
            pipe.hdel(keys.SIZES, spec.key)
            if not others:
                pipe.hdel(keys.DEFAULT_VERSIONS, spec.name)

        watched = (keys.REGISTRY, keys.DEFAULT_VERSIONS)
        self.redis.transaction(transaction, *watched, value_from_callable=True)
        return self.announce("unregister", spec)

    def announce(self, action: str, spec: ModelSpec) -> float:
        entry = {"action": action, "model": spec.name, "version": spec.version, "spec": spec.to_json()}
        return changes.announce(self.redis, entry)

    # replicas as their pools report them

    def report(self, spec: ModelSpec, pool: str, report: PoolReport) -> None:
        """Stores a pool's report, with the current time as its heartbeat."""
        stored = replace(report, reported=self.now()).to_json()
        self.redis.hset(keys.pools(spec.name, spec.version), pool, stored)

    def withdraw(self, spec: ModelSpec, pool: str) -> None:
        """Deletes the report of a pool that has ended."""
        self.redis.hdel(keys.pools(spec.name, spec.version), pool)

    def reports(self, spec: ModelSpec) -> dict[str, PoolReport]:
        """The last report of each pool of a model version, lost pools included."""
        stored = self.redis.hgetall(keys.pools(spec.name, spec.version))
        return {name.decode(): PoolReport.from_json(text) for name, text in stored.items()}

    def replicas(self, spec: ModelSpec) -> list[ReplicaReport]:
        """The replicas of all pools that are alive."""
        return [replica for report in self.live_reports(spec).values() for replica in report.replicas]

    def live_reports(self, spec: ModelSpec) -> dict[str, PoolReport]:
        """The last report of each pool that is alive, in the order of their names."""
        alive = self.now() - HEARTBEAT_LIMIT_S
        reports = sorted(self.reports(spec).items())
        return {name: report for name, report in reports if report.reported >= alive}

    def live_nodes(self) -> int:
        """How many nodes are alive."""
        return int(self.redis.zcount(keys.NODES, self.now() - HEARTBEAT_LIMIT_S, "+inf"))

    def now(self) -> float:
        """Unix seconds by the Redis server's clock: the one that all hosts share."""
        return changes.now(self.redis)
