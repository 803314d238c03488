"""A registered model and replicas of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from thread_replica import Answer, ThreadReplica, echo, make_spec

from marq.connections import clients
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """redis-py, to look at what is stored."""
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def registry(client: Any) -> Registry:
    return Registry(client)


@pytest.fixture
def spec(registry: Registry) -> ModelSpec:
    """A model that is registered."""
    spec = make_spec()
    registry.register(spec)
    return spec


StartReplica = Callable[..., ThreadReplica]


@pytest.fixture
def start_replica(redis_url: str, spec: ModelSpec) -> Iterator[StartReplica]:
    """Starts a replica of the registered model: start_replica(lambda request: Reply(...))."""
    started: list[ThreadReplica] = []

    def start(answer: Answer = echo, spec: ModelSpec = spec) -> ThreadReplica:
        started.append(ThreadReplica(redis_url, spec, answer))
        return started[-1]

    yield start
    for replica in started:
        replica.stop()
