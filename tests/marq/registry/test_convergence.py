"""The registry against a model of it: in any order, and by many at once, it names only what exists."""

import contextlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from thread_replica import make_spec

from marq.connections import clients
from marq.control.removal import retire
from marq.errors import Conflict, InvalidModelVersion, ModelNotFound, ModelVersionNotFound, ServiceError
from marq.registry.memory import Memory
from marq.registry.models import Registry
from marq.registry.snapshot import Models
from marq.registry.spec import ModelSpec

NAMES, VERSIONS = st.sampled_from("ab"), st.sampled_from("123")
UNKNOWN = (ModelNotFound, ModelVersionNotFound)


def check(models: Models) -> None:
    """What holds at every moment: each model has a default version, and it exists."""
    assert models.defaults.keys() == models.specs.keys()
    for name, version in models.defaults.items():
        assert version in models.specs[name]


class RegistryMachine(RuleBasedStateMachine):
    """One client does one thing after the other; Redis loses everything now and then."""

    client: Any

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.registry = Registry(self.client)
        self.memory = Memory(self.registry)
        self.specs: dict[str, ModelSpec] = {}
        self.defaults: dict[str, str] = {}

    @rule(name=NAMES, version=VERSIONS)
    def register(self, name: str, version: str) -> None:
        spec = make_spec(name, version, min_workers=1, max_workers=1)
        if spec.key in self.specs:
            with pytest.raises(Conflict):
                self.registry.register(spec)
        else:
            self.registry.register(spec)
            self._add(spec)

    @rule(name=NAMES, version=VERSIONS)
    def put(self, name: str, version: str) -> None:
        spec = make_spec(name, version, min_workers=2, max_workers=2)
        self.registry.put(spec)
        self._add(spec)

    @rule(name=NAMES, version=VERSIONS)
    def unregister(self, name: str, version: str) -> None:
        spec = make_spec(name, version)
        others = [key for key in self.specs if key.startswith(f"{name}/") and key != spec.key]
        if self.defaults.get(name) == version and others:
            with pytest.raises(InvalidModelVersion):
                self.registry.unregister(spec)
        elif spec.key in self.specs:
            self.registry.unregister(spec)
            self._remove(spec)

    @rule(name=NAMES, version=VERSIONS)
    def set_default(self, name: str, version: str) -> None:
        if f"{name}/{version}" in self.specs:
            self.registry.set_default(name, version)
            self.defaults[name] = version
        else:
            with pytest.raises(UNKNOWN):
                self.registry.set_default(name, version)

    @rule(name=NAMES, version=VERSIONS, size=st.integers(0, 5))
    def scale(self, name: str, version: str, size: int) -> None:
        self._change(name, version, lambda spec: self.registry.scale(spec, size, size).spec)

    @rule(name=NAMES, version=VERSIONS)
    def reload(self, name: str, version: str) -> None:
        self._change(name, version, lambda spec: self.registry.reload(spec).spec)

    @precondition(lambda self: self.specs)
    @rule(data=st.data())
    def retire(self, data: st.DataObject) -> None:
        spec = self.specs[data.draw(st.sampled_from(sorted(self.specs)))]
        retire(self.registry, spec)
        self._remove(spec)
        left = sorted(each.version for each in self.specs.values() if each.name == spec.name)
        if left and self.defaults.get(spec.name) not in left:
            self.defaults[spec.name] = left[-1]

    @rule()
    def lose_everything(self) -> None:
        self.memory.models()
        self.client.flushall()
        self.memory.models()

    @invariant()
    def the_registry_is_as_the_model_is(self) -> None:
        models = self.registry.models()
        check(models)
        assert {spec.key: spec for spec in models} == self.specs
        assert models.defaults == self.defaults

    def _add(self, spec: ModelSpec) -> None:
        self.specs[spec.key] = spec
        self.defaults.setdefault(spec.name, spec.version)

    def _remove(self, spec: ModelSpec) -> None:
        del self.specs[spec.key]
        if not any(each.name == spec.name for each in self.specs.values()):
            self.defaults.pop(spec.name, None)

    def _change(self, name: str, version: str, change: Callable[[ModelSpec], ModelSpec]) -> None:
        spec = make_spec(name, version)
        if spec.key in self.specs:
            self.specs[spec.key] = change(spec)
        else:
            with pytest.raises(ModelVersionNotFound):
                change(spec)


def test_in_any_order_the_registry_names_what_exists(client):
    machine = type("Machine", (RegistryMachine,), {"client": client})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30, stateful_step_count=30, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


AT_ONCE, STEPS = 16, 25
ACTIONS: list[Callable[[Registry, ModelSpec], object]] = [
    Registry.register, Registry.put, Registry.unregister, Registry.reload, retire,
    lambda registry, spec: registry.set_default(spec.name, spec.version),
    lambda registry, spec: registry.scale(spec, 2, 2),
]  # fmt: skip


def test_many_at_once_leave_no_default_version_that_does_not_exist(redis_url, registry):
    """Register against unregister, set-default against the removal of that version, scale against reload."""
    spec = make_spec("a", "1", min_workers=1, max_workers=1)
    ended = threading.Event()

    def act(seed: int) -> None:
        chance = random.Random(seed)
        with clients.client(redis_url) as client:
            own = Registry(client)
            for _ in range(STEPS):
                with contextlib.suppress(ServiceError):  # another one was faster
                    chance.choice(ACTIONS)(own, replace(spec, version=chance.choice("12")))

    def watch() -> int:
        looks = 0
        with clients.client(redis_url) as client:
            while not ended.is_set():
                check(Registry(client).models())
                looks += 1
        return looks

    with ThreadPoolExecutor(AT_ONCE + 1) as threads:
        watched = threads.submit(watch)
        try:
            for acted in [threads.submit(act, seed) for seed in range(AT_ONCE)]:
                acted.result()
        finally:
            ended.set()
        assert watched.result() > 0
    check(registry.models())


def test_no_change_of_many_at_once_is_lost(redis_url, registry):
    registry.register(make_spec("a", "1"))

    def reload(_: int) -> None:
        with clients.client(redis_url) as client:
            own = Registry(client)
            for size in range(5):
                own.reload(make_spec("a", "1"))
                own.scale(make_spec("a", "1"), size, size)

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(reload, range(AT_ONCE)))
    assert registry.models().get("a").generation == AT_ONCE * 5
