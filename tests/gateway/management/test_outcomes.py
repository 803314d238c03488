"""How registering, scaling, reloading and unregistering end; the tests report in place of the pools."""

import asyncio
import contextlib
import json
import os
import threading
import time
from dataclasses import dataclass, field

import httpx
import pytest
from contract import error, status
from support import wait_for

from gateway.application import management_application
from gateway.auth.tokens import Tokens
from gateway.routing.routes import Routes
from marq import keys
from marq.connections import clients
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings

HANDLER = "def handle(data, context):\n    return data\n"
LIMIT_S = 30


@dataclass
class Pools:
    """Reports a pool for each registered version until it ends, as often as a test needs it."""

    registry: Registry
    ready: int | None = None  # number of ready replicas; None: as many as are wanted
    reason: str = ""  # why replicas fail, if they do
    stubborn: bool = False  # goes on when its version is not registered any more
    _ended: threading.Event = field(default_factory=threading.Event)
    _reported: dict[str, ModelSpec] = field(default_factory=dict)

    def run(self) -> None:
        while not self._ended.wait(0.01):
            registered = {spec.key: spec for spec in self.registry.models()}
            if not self.stubborn:
                for key in self._reported.keys() - registered.keys():
                    self.registry.withdraw(self._reported.pop(key), "pool@host")
            self._reported |= registered
            for spec in self._reported.values():
                self.report(spec)

    def stop(self) -> None:
        self._ended.set()

    def report(self, spec: ModelSpec) -> None:
        number = spec.min_workers if self.ready is None else self.ready
        replica = {"device": "cpu", "state": "ready", "started": 0.0, "generation": spec.generation}
        counts = {"memory": 0, "requests": 0, "batches": 0}
        report = {
            "node": "host",
            "wanted": spec.min_workers,
            "generation": spec.generation,
            "failures": 1 if self.reason else 0,
            "failing_since": 0.0 if self.reason else None,
            "reason": self.reason,
            "replicas": [{"id": slot, "pid": slot, **replica, **counts} for slot in range(number)],
            "reported": self.registry.now(),
        }
        pools = keys.pools(spec.name, spec.version)
        self.registry.redis.hset(pools, "pool@host", json.dumps(report))


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def registry(client):
    return Registry(client)


@pytest.fixture
def play(redis_url):
    """Starts the pools: play(ready=1, reason="...")."""
    with contextlib.ExitStack() as stack:

        def play(**behaviour) -> Pools:
            pools = Pools(Registry(stack.enter_context(clients.client(redis_url))), **behaviour)
            thread = threading.Thread(target=pools.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(pools.stop)
            return pools

        yield play


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_archive):
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "m", HANDLER, version="2.0").rename(store / "m2.mar")
    make_archive(store, "m", HANDLER)
    return store


@pytest.fixture
async def api(redis_url, store, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    settings = Settings(
        redis_url=redis_url, model_store=store, enable_model_api=True, unregister_model_timeout=LIMIT_S
    )
    app = management_application(settings, Routes(settings), Tokens(required=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as http:
        yield http


@pytest.fixture
async def model(api):
    """A registered model of one replica."""
    assert (await api.post("/models?url=m.mar&initial_workers=1&synchronous=false")).status_code == 202


def wait_for_replica(client) -> None:
    registry = Registry(client)
    wait_for(lambda: registry.replicas(registry.models().get("m")), what="the report of a replica")


# register


async def test_a_registration_waits_until_its_replicas_are_ready(api, play):
    play()
    answer = await api.post("/models?url=m.mar&initial_workers=2&synchronous=true")
    assert status(answer, 200) == 'Model "m" Version: 1.0 registered with 2 initial workers'


async def test_parameters_may_come_as_json(api, play):
    play()
    order = {"url": "m.mar", "initial_workers": 2, "synchronous": True}
    assert status(await api.post("/models", json=order), 200).endswith("registered with 2 initial workers")


async def test_without_replicas_there_is_nothing_to_wait_for(api):
    answer = await api.post("/models?url=m.mar&initial_workers=0&synchronous=true")
    assert status(answer, 200).endswith(
        "0 initial workers. Use scale workers API to add workers for the model."
    )


async def test_some_replicas_of_several_are_a_partial_success(api, play):
    play(ready=1, reason="out of luck")
    answer = await api.post("/models?url=m.mar&initial_workers=2&synchronous=true")
    assert status(answer, 206) == "Workers scaling in progress..."
    assert (await api.get("/models/m")).status_code == 200


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("ValueError: no", 500, "InternalServerException"),
        ("MemoryError: no", 507, "WorkerInitializationException"),
        ("RuntimeError: CUDA out of memory", 507, "WorkerInitializationException"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried", 507, "WorkerInitializationException"),
        ("torch.AcceleratorError: CUDA error: no\nCompile with X", 507, "WorkerInitializationException"),
        ("RuntimeError: CUDA error: no\n\nValueError: no", 500, "InternalServerException"),
    ],
)
async def test_a_registration_whose_replicas_fail_is_undone(api, play, reason, code, kind):
    play(ready=0, reason=reason)
    answer = await api.post("/models?url=m.mar&initial_workers=1&synchronous=true")
    assert answer.status_code == code
    assert answer.json()["message"] == f"Failed to start workers for model m version: 1.0\n{reason}"
    error(await api.get("/models/m"), 404, "ModelNotFoundException")


async def test_a_version_is_registered_once(api, model):
    error(await api.post("/models?url=m.mar"), 409, "ConflictStatusException")


# scale and reload


async def test_scaling_waits_for_what_it_changes(api, model, play):
    play()
    assert (
        status(await api.put("/models/m?min_worker=3&synchronous=true"), 200)
        == "Workers scaled to 3 for model: m"
    )
    answer = await api.put("/models/m/1.0?min_worker=2&synchronous=true")
    assert status(answer, 200) == "Workers scaled to 2 for model: m, version: 1.0"
    assert [len(each["workers"]) for each in (await api.get("/models/m")).json()] == [2]


async def test_scaling_need_not_wait(api, model, registry):
    assert status(await api.put("/models/m?min_worker=3"), 202) == "Processing worker updates..."
    spec = registry.models().get("m")
    assert (spec.min_workers, spec.max_workers) == (3, 3)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("min_worker=2", (2, 4)),  # the smallest size; the largest one stays
        ("min_worker=6", (6, 6)),
        ("min_worker=2&max_worker=2", (2, 2)),
        ("min_worker=0", (0, 0)),  # stopped: without idleTimeoutSec it does not rest
    ],
)
async def test_scaling_an_elastic_version_sets_its_smallest_size(api, model, registry, query, expected):
    registry.scale(registry.models().get("m"), 1, 4)
    assert (await api.put(f"/models/m?{query}")).status_code == 202
    spec = registry.models().get("m")
    assert (spec.min_workers, spec.max_workers) == expected


async def test_a_scaling_that_takes_too_long_says_how_far_it_is(api, model, play):
    play(ready=0)
    message = (await api.put("/models/m?min_worker=2&synchronous=true&timeout=1")).json()["message"]
    assert message == "Failed to start workers for model m version: null\n0 of 2 workers are ready after 1 s"


async def test_a_scaling_that_succeeds_in_part_goes_on(api, model, play):
    play(ready=1, reason="out of luck")
    assert (
        status(await api.put("/models/m?min_worker=2&synchronous=true"), 206)
        == "Workers scaling in progress..."
    )


@pytest.mark.parametrize(("reason", "generation"), [("no such file", 1), ("", 0)])
async def test_scaling_starts_those_replicas_again_that_have_failed(api, model, registry, reason, generation):
    Pools(registry, reason=reason).report(registry.models().get("m"))
    assert (await api.put("/models/m?min_worker=2")).status_code == 202
    assert registry.models().get("m").generation == generation


async def test_maximum_attempts_change_alone(api, model, registry):
    answer = await api.put("/models/m?max_attempts=7")
    assert status(answer, 200) == "maxAttempts set to 7 for model: m"
    assert registry.models().get("m").max_attempts == 7
    assert registry.models().get("m").min_workers == 1


async def test_a_maximum_below_the_minimum_is_refused(api, model):
    message = error(await api.put("/models/m?min_worker=2&max_worker=1"), 400, "BadRequestException")
    assert message == "max_worker cannot be less than min_worker."


async def test_reloading_waits_for_the_next_generation(api, model, play, registry):
    play()
    answer = await api.post("/models/m/reload?synchronous=true")
    assert status(answer, 200) == "Workers reloaded for model: m, version: 1.0"
    assert registry.models().get("m").generation == 1
    assert status(await api.post("/models/m/1.0/reload"), 202) == "Processing worker updates..."


@pytest.mark.parametrize(("ready", "code"), [(1, 206), (0, 500)])
async def test_a_reload_that_fails_tells_how_far_it_is(api, play, ready, code):
    await api.post("/models?url=m.mar&initial_workers=2&synchronous=false")
    play(ready=ready, reason="out of luck")
    assert (await api.post("/models/m/reload?synchronous=true")).status_code == code


# default versions and the end


async def test_the_default_version_may_be_changed_and_then_the_other_one_removed(api, model):
    await api.post("/models?url=m2.mar&synchronous=false")
    error(await api.delete("/models/m/1.0"), 403, "InvalidModelVersionException")
    answer = await api.put("/models/m/2.0/set-default")
    assert status(answer, 200) == 'Default version successfully updated for model "m" to "2.0"'
    assert status(await api.delete("/models/m/1.0"), 200) == 'Model "m" unregistered'
    assert [each["modelVersion"] for each in (await api.get("/models/m/all")).json()] == ["2.0"]


async def test_unregistering_waits_until_the_pool_has_ended(api, model, play):
    play()
    assert status(await api.delete("/models/m"), 200) == 'Model "m" unregistered'
    error(await api.get("/models/m"), 404, "ModelNotFoundException")


async def test_a_version_whose_pool_does_not_end_stays(api, model, play, registry):
    play(stubborn=True)
    wait_for_replica(registry.redis)
    message = error(await api.delete("/models/m?timeout=1"), 408, "RequestTimeoutException")
    assert message == "Timed out while cleaning resources: m"
    assert (await api.get("/models/m")).status_code == 200


# a handler's own description


async def describe(api, client, *reply) -> httpx.Response:
    """Describes the model; the reply is that of its replica, if there is one."""
    lane = keys.lane("m", "1.0", keys.FRONT)

    def answer() -> None:
        while not (entries := client.xrange(lane)):
            time.sleep(0.01)
        ((_, fields),) = entries
        assert json.loads(fields[b"headers"]) == {"describe": "True"}
        client.xadd(fields[b"reply"], {"id": fields[b"id"], **dict(reply)})

    replica = threading.Thread(target=answer)
    if reply:
        replica.start()
    answered = await api.get("/models/m?customized=true")
    if reply:
        replica.join()
        assert not client.exists(*client.keys("marq:replies:*") or ["none"])
    return answered


async def test_without_a_replica_a_handler_cannot_describe_itself(api, model, client):
    message = error(await describe(api, client), 503, "ServiceUnavailableException")
    assert message.startswith('Model "m" has no worker to serve describe request.')


@pytest.mark.parametrize(
    ("body", "metadata"),
    [('{"kind": "cat"}', {"kind": "cat"}), ("[1]", {}), ("no JSON", {}), ("[" * 100_000, {})],
    ids=["object", "list", "text", "brackets"],
)
async def test_a_handlers_description_is_a_json_object_or_nothing(api, model, client, play, body, metadata):
    play()
    wait_for_replica(client)
    [version] = (await describe(api, client, ("body", body))).json()
    assert version["customizedMetadata"] == metadata


async def test_a_handler_that_fails_to_describe_itself_is_an_error(api, model, client, play):
    play()
    wait_for_replica(client)
    answer = await describe(api, client, ("status", 500), ("body", "no idea"))
    message = error(answer, 500, "InternalServerException")
    assert message == "Failed to get customized model matadata.\nno idea"


async def test_a_replica_that_does_not_answer_ends_the_wait(api, client, play):
    await api.post("/models?url=m.mar&initial_workers=1&response_timeout=1&synchronous=false")
    play()
    wait_for_replica(client)
    message = error(await describe(api, client), 500, "InternalServerException")
    assert message.endswith("no replica answered in time")


# documents


async def test_options_shows_the_document_of_one_model(api, model):
    document = (await api.options("/models/m")).json()
    assert document["info"]["title"] == "RESTful Management API for: m"
    error(await api.options("/models/nope"), 404, "ModelNotFoundException")


# sizes that are hardly meant


async def test_a_size_beyond_the_hosts_is_refused_unless_it_is_meant(api, model, registry):
    answer = await api.put("/models/m?min_worker=5000")
    assert error(answer, 400, "BadRequestException").endswith("Add force=true if you mean it.")
    assert registry.models().get("m").min_workers == 1
    assert (await api.put("/models/m?min_worker=5000&force=true")).status_code == 202
    assert registry.models().get("m").min_workers == 5000
    assert (await api.put("/models/m?min_worker=4000")).status_code == 202  # fewer than there are
    assert (await api.put("/models/m?min_worker=1")).status_code == 202


async def test_a_registration_beyond_the_hosts_is_refused_unless_it_is_meant(api, registry):
    query = "url=m.mar&initial_workers=5000&synchronous=false"
    answer = await api.post(f"/models?{query}")
    assert error(answer, 400, "BadRequestException").startswith("5000 replicas are more than the ")
    assert list(registry.models()) == []
    assert (await api.post(f"/models?{query}&force=true")).status_code == 202


async def test_hundreds_of_replicas_are_not_refused(api, model):
    assert (await api.put("/models/m?min_worker=200")).status_code == 202


async def test_a_version_that_is_registered_again_while_it_is_unregistered_stays(
    api, model, client, registry, play
):
    # Given a removal that waits for a pool
    play(stubborn=True)
    wait_for_replica(client)
    removal = asyncio.create_task(api.delete("/models/m"))
    while list(registry.models()):
        await asyncio.sleep(0.01)
    # When the version is registered again
    again = await api.post("/models?url=m.mar&initial_workers=3&synchronous=false")
    assert again.status_code == 202
    # Then the removal leaves it and its queue alone
    assert (await removal).status_code == 200
    assert registry.models().get("m").min_workers == 3
    for lane in keys.lanes("m", "1.0"):
        assert [group["name"] for group in client.xinfo_groups(lane)] == [b"replicas"]
