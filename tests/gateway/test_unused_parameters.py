"""Parameters without an effect: answers and the log name them; harmful requests are refused."""

import contextlib
import json
import logging

import httpx
import pytest
from thread_replica import make_spec

from gateway import unused_parameters
from gateway.application import management_application
from gateway.auth.tokens import Tokens
from gateway.routing.routes import Routes
from marq.connections import clients
from marq.registry.models import Registry
from marq.settings.fields import Settings

LOGGER = "gateway.unused_parameters"
# method, path, name that is wrong, what is said of it
TOLD = [
    ("GET", "/models", "limits=3", "limits has no effect: did you mean limit?"),
    ("GET", "/models", "nextPageToken=3", "nextPageToken has no effect: did you mean next_page_token?"),
    ("GET", "/models/echo", "custom=true", "custom has no effect: did you mean customized?"),
    ("POST", "/models", "batchsize=4", "batchsize has no effect: did you mean batch_size?"),
    ("POST", "/models", "maxBatchDelay=4", "maxBatchDelay has no effect: did you mean max_batch_delay?"),
    ("POST", "/models", "workers=4", "workers has no effect: did you mean initial_workers?"),
    ("PUT", "/models/echo", "min_worker=1&syncronous=true",
     "syncronous has no effect: did you mean synchronous?"),
    ("PUT", "/models/echo", "min_worker=1&number_gpu=1",
     "number_gpu has no effect: deviceIds in model-config.yaml chooses the GPUs of a model."),
    ("PUT", "/models/echo", "min_worker=1&timeout=3", "timeout has no effect without synchronous=true."),
    ("POST", "/models/echo/reload", "timeout=3", "timeout has no effect without synchronous=true."),
    ("POST", "/models/echo/reload", "syncronous=true", "syncronous has no effect: did you mean synchronous?"),
    ("PUT", "/models/echo/1.0/set-default", "color=red",
     "color has no effect here. The parameters of this request: none."),
    ("DELETE", "/models/nothing", "synchronous=true",
     "synchronous has no effect: the answer always waits until it is done."),
    ("GET", "/dead-letters/echo", "limitt=3", "limitt has no effect: did you mean limit?"),
]  # fmt: skip
# what would remove or resize something else than was meant
REFUSED = [
    ("DELETE", "/models/echo", "version=1.0", "version has no effect: did you mean model_version?"),
    ("DELETE", "/models/echo", "v=1.0", "v has no effect here."),
    ("PUT", "/models/echo", "min_workers=8", "min_workers has no effect: did you mean min_worker?"),
    ("PUT", "/models/echo", "batch_size=8", "batch_size has no effect here."),
    ("PUT", "/models/echo", "min_worker=3&version=1.0", "version has no effect: did you mean model_version?"),
    ("PUT", "/models/echo", "min_worker=3&maxworker=8", "maxworker has no effect: did you mean max_worker?"),
]


@pytest.fixture
def registry(redis_url):
    with clients.client(redis_url) as client:
        registry = Registry(client)
        registry.register(make_spec(min_workers=3, max_workers=3))
        yield registry


@contextlib.asynccontextmanager
async def management(redis_url):
    settings = Settings(redis_url=redis_url, enable_model_api=True)
    app = management_application(settings, Routes(settings), Tokens(required=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as api:
        yield api


@pytest.mark.parametrize(("method", "path", "query", "sentence"), TOLD)
async def test_a_parameter_without_an_effect_is_named(
    registry, redis_url, caplog, method, path, query, sentence
):
    async with management(redis_url) as api:
        with caplog.at_level(logging.WARNING, LOGGER):
            answer = await api.request(method, f"{path}?{query}")
            plain = await api.request(method, path)
    assert answer.headers["warning"] == f'299 marq "{sentence}"'
    assert f"{method} {path}: {sentence}" in caplog.messages
    if "worker" not in query:
        assert answer.status_code == plain.status_code  # it answers as it would without


async def test_parameters_that_have_an_effect_are_not_named(registry, redis_url):
    async with management(redis_url) as api:
        for method, path in (
            ("GET", "/models?limit=3&next_page_token=0"),
            ("GET", "/models/echo?customized=false"),
            (
                "POST",
                "/models?url=none.mar&batch_size=3&initial_workers=0&synchronous=false&response_timeout=9",
            ),
            ("PUT", "/models/echo?min_worker=3&max_worker=4&max_attempts=3"),
        ):
            assert "warning" not in (await api.request(method, path)).headers


async def test_the_names_of_a_json_body_count_too(registry, redis_url):
    async with management(redis_url) as api:
        answer = await api.post("/models", json={"url": "none.mar", "batchSize": 3, "batch_size": 3})
    assert answer.headers["warning"] == '299 marq "batchSize has no effect: did you mean batch_size?"'


@pytest.mark.parametrize(("method", "path", "query", "sentence"), REFUSED)
async def test_what_would_harm_is_refused(registry, redis_url, method, path, query, sentence):
    async with management(redis_url) as api:
        answer = await api.request(method, f"{path}?{query}")
    assert answer.status_code == 400
    assert answer.json()["message"].startswith(f"Parameter {sentence}")
    spec = registry.models().get("echo")
    assert (spec.min_workers, spec.max_workers) == (3, 3)


async def test_dead_letters_are_not_all_deleted_by_an_unknown_parameter(registry, redis_url):
    async with management(redis_url) as api:
        answer = await api.delete("/dead-letters/echo?id=1-0")
    assert answer.status_code == 422


async def test_names_cannot_add_headers_or_lines(registry, redis_url, caplog):
    hostile = {'a"\r\nX-Evil: 1\x00é' + "x" * 5000: "1"} | {f"unknown{n}": "1" for n in range(500)}
    async with management(redis_url) as api:
        answer = await api.get("/models", params=hostile)
        big = await api.post(
            "/models", content=json.dumps(hostile), headers={"content-type": "application/json"}
        )
    for each in (answer, big):
        assert len(each.headers.get_list("warning")) == 10
        assert "x-evil" not in each.headers
        assert each.headers.get_list("warning")[0].startswith('299 marq "a???X-Evil??1??xxx')
    assert not [line for line in caplog.messages if "\n" in line or len(line) > 500]


async def test_many_or_long_names_take_no_time(registry, redis_url, monkeypatch):
    """They are compared with the known ones: ten names of fifty characters at most."""
    compared = []
    monkeypatch.setattr(unused_parameters, "meant", lambda name, _known: compared.append(name))
    many = {f"{n}" + "x" * 100: "1" for n in range(5_000)}
    async with management(redis_url) as api:
        await api.post("/models", json=many)
        await api.put("/models/echo?min_worker=3&" + "&".join(f"{n}" for n in range(2_000)))
        await api.delete("/models/nothing?" + "x" * 10_000)
    assert len(compared) <= 32
    assert max(map(len, compared)) == 50
