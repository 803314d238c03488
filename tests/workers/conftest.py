"""A registered model, and what a pool and its replicas know of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marq import connection, keys
from marq.connection import Connection
from marq.registry import ModelSpec, Registry
from workers.specs import PoolSpec


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """redis-py, to look at what is stored."""
    with connection.client(redis_url) as client:
        yield client


@pytest.fixture
def registry(client: Any) -> Registry:
    return Registry(client)


Register = Callable[..., ModelSpec]


@pytest.fixture
def register(registry: Registry) -> Register:
    """Registers the model `m` with these settings: register(batch_size=4)."""

    def register(version: str = "1.0", **settings: Any) -> ModelSpec:
        spec = ModelSpec("m", version, "m.mar", "/store/m.mar", "handler.py", **settings)
        registry.put(spec)
        return spec

    return register


@pytest.fixture
def plain(redis_url: str) -> Iterator[Connection]:
    """The connection that replicas use."""
    connection = Connection(redis_url)
    connection.load_scripts()
    yield connection
    connection.close()


@pytest.fixture
def make_pool(redis_url: str, tmp_path: Path) -> Callable[..., PoolSpec]:
    """What a pool of a model is told: make_pool(spec, node="a")."""

    def make(model: ModelSpec, **settings: Any) -> PoolSpec:
        given: dict[str, Any] = {
            "node": "host", "model_dir": str(tmp_path), "redis_url": redis_url,
            "run_dir": str(tmp_path / "run"), "log_file": str(tmp_path / "model_log.log"), "gpus": [],
            "first_device": 0, "threads": 1, "max_response_size": 1_000_000, "job_result_ttl_ms": 60_000,
            "decode_input": True, "limit_max_image_pixels": True,
        }  # fmt: skip
        return PoolSpec(model, **{**given, **settings})

    return make


AddRows = Callable[..., list[bytes]]


@pytest.fixture
def add(client: Any) -> AddRows:
    """Queues rows of the model `m`: add(b"a", b"b", lane=keys.LOW, attempts=1) -> their entries."""

    def add(*bodies: bytes, lane: str = keys.NORMAL, **fields: Any) -> list[bytes]:
        stream = keys.lane("m", "1.0", lane)
        return [client.xadd(stream, {**fields, "body": body}) for body in bodies]

    return add
