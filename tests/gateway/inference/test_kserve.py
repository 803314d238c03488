"""Readiness: it names the versions that are missing."""

import httpx
import pytest
import redis
from fastapi import FastAPI
from thread_replica import make_spec

from gateway.inference import kserve
from gateway.routing.routes import Routes
from marq import keys
from marq.connections import clients
from marq.registry.models import Registry
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.sizes.hosts import Device, Host, publish
from marq.settings.fields import Settings


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def routes(redis_url):
    return Routes(Settings(redis_url=redis_url))


@pytest.fixture
async def api(routes):
    app = FastAPI()
    app.include_router(kserve.router(routes))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as http:
        yield http


def register(client, name: str, size: int, ready: int = 0) -> None:
    registry, spec = Registry(client), make_spec(name, min_workers=size, max_workers=size)
    registry.register(spec)
    replicas = tuple(ReplicaReport(slot, 1, "cpu", "ready", started=0.0) for slot in range(ready))
    registry.report(spec, f"{name}@host", PoolReport("host", size, replicas=replicas))


async def test_a_server_that_is_not_ready_names_what_is_missing(api, client):
    register(client, "runs", 1, ready=1)
    register(client, "b", 2)
    register(client, "a", 1)
    register(client, "sleeps", 0)
    answer = await api.get("/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "missing": ["a/1.0", "b/1.0"]})


async def test_a_server_whose_redis_refuses_commands_says_why(routes, api, client):
    register(client, "runs", 1, ready=1)
    routes.health.refuse(redis.ResponseError("MISCONF Errors writing to the AOF file: No space left"))
    answer = await api.get("/v2/health/ready")
    assert answer.status_code == 503
    reason = "Redis fails: MISCONF Errors writing to the AOF file: No space left"
    assert answer.json() == {"ready": False, "reason": reason}
    routes.health.accept()
    assert (await api.get("/v2/health/ready")).status_code == 200


async def test_a_version_that_rests_is_ready_and_replicas_without_a_device_are_named(routes, api, client):
    registry = Registry(client)
    registry.register(make_spec("rests", min_workers=0, max_workers=2, idle_timeout_s=60))
    limited = make_spec("gpus", min_workers=2, max_workers=2, device_type="gpu", replicas_per_device=1)
    registry.register(limited)
    replica = ReplicaReport(0, 1, "cuda:0", "ready", started=0.0)
    registry.report(limited, "gpus@a", PoolReport("a", 1, replicas=(replica,)))
    client.zadd(keys.NODES, {"a": registry.now()})
    publish(client, "a", Host("cuda", (Device(0),)))
    await routes.refresh()
    answer = await api.get("/v2/health/ready")
    [sentence] = answer.json()["unplaced"]
    assert answer.status_code == 200
    assert sentence.startswith("gpus 1.0: 1 of 2 replicas have no device: replicasPerDevice is 1")
    assert (await api.get("/v2/models/rests/ready")).json() == {"name": "rests", "ready": True}


async def test_models_that_redis_has_lost_are_missing_until_they_run_again(api, client):
    register(client, "a", 1, ready=1)
    assert (await api.get("/v2/health/ready")).json() == {"ready": True}
    client.flushall()
    assert (await api.get("/v2/health/ready")).json() == {"ready": False, "missing": ["a/1.0"]}
