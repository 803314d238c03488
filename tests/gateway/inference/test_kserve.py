"""Readiness: it names the versions that are missing."""

import httpx
import pytest
from fastapi import FastAPI
from thread_replica import make_spec

from gateway.inference import kserve
from gateway.routing.routes import Routes
from marq.connections import clients
from marq.registry.models import Registry
from marq.registry.reports import PoolReport, ReplicaReport
from marq.settings.fields import Settings


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
async def api(redis_url):
    app = FastAPI()
    app.include_router(kserve.router(Routes(Settings(redis_url=redis_url))))
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


async def test_models_that_redis_has_lost_are_missing_until_they_run_again(api, client):
    register(client, "a", 1, ready=1)
    assert (await api.get("/v2/health/ready")).json() == {"ready": True}
    client.flushall()
    assert (await api.get("/v2/health/ready")).json() == {"ready": False, "missing": ["a/1.0"]}
