"""The management API over HTTP, against a server as `marq start` runs it.

The tests in `contract/` cover what TorchServe's users know of it; these cover the rest.
"""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import jsonschema_rs  # schemathesis's own
import pytest
import redis
from gate import HOLD
from support import wait_for

from gateway.application import management_application
from gateway.auth.tokens import Tokens
from gateway.routing.routes import Routes
from marq import gpus, keys
from marq.queue.replies.entries import decode_replies
from marq.registry.names import MODEL_RULE
from marq.settings.fields import Settings

ECHO = """
class Echo:
    def initialize(self, context): ...

    def handle(self, data, context):  # noqa: ARG002
        if context.get_request_header(0, "describe") == "True":
            return [{"kind": "echo", "rows": len(data)}]
        return [bytes(row["body"]) for row in data]
"""
PLAIN = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and ["plain"] * len(data)
"""
SLOW = (
    HOLD
    + """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data:
        hold(data[0]["body"].decode())
        return ["done"] * len(data)
"""
)
BROKEN = "raise RuntimeError('this module cannot be imported')"
MOODY = """
from pathlib import Path

if Path({ill!r}).exists():
    raise RuntimeError("not in the mood")

def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and ["well"] * len(data)
"""
REFUSES = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data:
        raise ValueError("not for you")
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory, make_archive):
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "echo", ECHO, version="2.0").rename(store / "echo2.mar")
    make_archive(store, "echo", ECHO, config={"batchSize": 4, "maxBatchDelay": 20, "deviceIds": [0]})
    for name, source in {
        "plain": PLAIN, "slow": SLOW, "broken": BROKEN, "refuses": REFUSES,
    }.items():  # fmt: skip
        make_archive(store, name, source)
    return store


@pytest.fixture(scope="module")
def server(start_server, store):
    options = {"enable_model_api": True, "default_workers_per_model": 1, "allowed_urls": "file:///.*"}
    server = start_server(store, ["echo.mar"], **options)
    server.wait_until_ready("echo")
    return server


@pytest.fixture(scope="module")
def api(server):
    with httpx.Client(base_url=server.management, timeout=60) as client:
        yield client


@pytest.fixture
def database(server):
    with redis.Redis.from_url(server.redis_url) as client:
        yield client


@pytest.fixture
def register(api):
    """Registers for one test: register("slow.mar", initial_workers=0)."""
    urls = []

    def register(url, **parameters):
        answer = api.post("/models", params={"url": url, **parameters})
        name = parameters.get("model_name", url.removesuffix(".mar"))
        urls.append(f"/models/{name}")
        return answer

    yield register
    for url in urls:
        api.delete(url)


def status(answer, code):
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.text.startswith('{\n  "') and answer.text.endswith("\n}\n")
    return answer.json()["status"]


def error(answer, code, kind):
    assert answer.status_code == code, answer.text
    assert list(answer.json()) == ["code", "type", "message"]
    assert (answer.json()["code"], answer.json()["type"]) == (code, kind)
    return answer.json()["message"]


def test_describe_has_torchserves_keys_in_torchserves_order(api):
    (described,) = api.get("/models/echo").json()
    assert list(described) == [
        "modelName", "modelVersion", "modelUrl", "runtime", "minWorkers", "maxWorkers", "batchSize",
        "maxBatchDelay", "responseTimeout", "startupTimeout", "maxRetryTimeoutInSec", "clientTimeoutInMills",
        "parallelType", "parallelLevel", "deviceType", "deviceIds", "continuousBatching", "useJobTicket",
        "useVenv", "stateful", "sequenceMaxIdleMSec", "sequenceTimeoutMSec", "maxNumSequence",
        "maxSequenceJobQueueSize", "loadedAtStartup", "workers", "jobQueueStatus", "maxAttempts",
    ]  # fmt: skip
    assert (described["modelName"], described["modelVersion"], described["modelUrl"]) == (
        "echo", "1.0", "echo.mar",
    )  # fmt: skip
    assert (described["batchSize"], described["maxBatchDelay"], described["deviceIds"]) == (4, 20, [0])
    assert described["loadedAtStartup"] is True
    assert described["jobQueueStatus"] == {"remainingCapacity": 100, "pendingRequests": 0}
    (worker,) = described["workers"]
    assert list(worker)[:7] == ["id", "startTime", "status", "memoryUsage", "pid", "gpu", "gpuUsage"]
    assert (worker["id"], worker["status"], worker["state"]) == (f"{worker['node']}/0", "READY", "ready")
    assert (worker["gpuUsage"] == "N/A") is not worker["gpu"]
    assert worker["pid"] > 1 and worker["memoryUsage"] > 10**6
    assert abs(time.time() - _unix(worker["startTime"])) < 3600


@pytest.mark.skipif(bool(gpus.visible()), reason="this host has a GPU")
def test_a_model_for_gpus_on_a_host_without_one_says_that_it_runs_on_the_cpu(
    api, server, store, make_archive
):
    make_archive(store, "costly", PLAIN, config={"deviceType": "gpu"})
    api.post("/models?url=costly.mar&initial_workers=1&synchronous=true").raise_for_status()
    (described,) = api.get("/models/costly").json()
    [notice] = described["notices"]
    assert notice.endswith("costly has deviceType gpu, and this host has no GPU: its replicas run on the CPU")
    assert notice in " ".join(server.marq("status").stdout.split())
    api.delete("/models/costly").raise_for_status()


def _unix(text):
    from datetime import datetime

    assert text.endswith("Z") and len(text) == len("2024-01-02T03:04:05.678Z")
    return datetime.fromisoformat(text).timestamp()


def test_describe_counts_what_is_queued(api, server, register, database):
    register("plain.mar", initial_workers=0)
    for number in range(3):
        database.xadd(keys.lane("plain", "1.0"), {"id": f"r{number}", "body": b""})
    (described,) = api.get("/models/plain").json()
    assert "deviceIds" not in described
    assert described["jobQueueStatus"] == {"remainingCapacity": 97, "pendingRequests": 3}
    assert described["workers"] == []


def test_describe_asks_the_handler_alone_however_busy_it_is(api, server):
    with ThreadPoolExecutor(8) as threads:
        predictions = [threads.submit(server.predict, "echo", b"x") for _ in range(50)]
        answers = [api.get("/models/echo?customized=True").json() for _ in range(5)]
        assert all(prediction.result().content == b"x" for prediction in predictions)
    assert all(answer[0]["customizedMetadata"] == {"kind": "echo", "rows": 1} for answer in answers)
    assert "customizedMetadata" not in api.get("/models/echo/all?customized=true").json()[0]


def test_a_handler_without_metadata_has_empty_ones(api, register):
    register("plain.mar")
    assert api.get("/models/plain?customized=true").json()[0]["customizedMetadata"] == {}


def test_a_handler_that_cannot_describe_itself_is_a_500(api, register):
    register("refuses.mar")
    message = error(api.get("/models/refuses?customized=true"), 500, "InternalServerException")
    assert message.startswith("Failed to get customized model matadata.\n")


def test_the_document_of_an_unknown_model_is_a_404(api):
    assert error(api.options("/models/no"), 404, "ModelNotFoundException") == "Model not found: no"


@pytest.mark.parametrize(("method", "path"), [("PATCH", "/models"), ("POST", "/models/echo")])
def test_other_methods_are_405(api, method, path):
    error(api.request(method, path), 405, "MethodNotAllowedException")


def test_options_documents_one_model(api):
    document = api.options("/models/echo").json()
    assert document["info"] == {"title": "RESTful Management API for: echo", "version": "1.0.0"}
    assert {
        "/models/echo", "/models/echo/{model_version}", "/models/echo/{model_version}/set-default",
    } <= document["paths"].keys()  # fmt: skip
    assert all(path.startswith("/models/echo") for path in document["paths"])


def test_the_openapi_document_describes_every_parameter_of_register(api):
    operation = api.get("/openapi.json").json()["paths"]["/models"]["post"]
    assert {"url", "batch_size", "max_attempts", "synchronous"} <= {
        p["name"] for p in operation["parameters"]
    }
    assert "application/json" in operation["requestBody"]["content"]


def test_the_openapi_document_describes_what_describe_answers(api, register):
    register("broken.mar", synchronous="false")
    wait_for(lambda: load_failure(api, "broken"))
    paths = api.get("/openapi.json").json()["paths"]
    answer = paths["/models/{model_name}"]["get"]["responses"]["200"]["content"]["application/json"]
    for url in ("/models/echo?customized=true", "/models/broken"):
        jsonschema_rs.validate(closed(answer["schema"]), api.get(url).json())
    parameters = paths["/models/{model_name}"]["put"]["parameters"]
    assert "max_attempts" in {parameter["name"] for parameter in parameters}


def closed(schema):
    """The schema without room for what it does not name."""
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "properties" in schema else {}
    return {key: closed(value) for key, value in schema.items()} | more


def test_what_was_registered_synchronously_answers_at_once(server, register):
    answer = register("echo2.mar", model_name="fresh")
    assert status(answer, 200) == 'Model "fresh" Version: 2.0 registered with 1 initial workers'
    assert server.predict("fresh", b"hello").content == b"hello"


def test_a_model_without_workers_waits_for_them(api, server, register):
    answer = register("plain.mar", initial_workers=0, synchronous="false")
    assert status(answer, 200) == (
        'Model "plain" Version: 1.0 registered with 0 initial workers. '
        "Use scale workers API to add workers for the model."
    )
    assert server.predict("plain").status_code == 503
    assert status(api.put("/models/plain?min_worker=1"), 202) == "Processing worker updates..."
    server.wait_until_ready("plain")
    assert server.predict("plain").text == "plain"


def test_register_need_not_wait(server, register):
    assert status(register("plain.mar", synchronous="False"), 202) == "Processing worker updates..."
    server.wait_until_ready("plain")


def test_parameters_may_come_as_json_and_then_the_query_does_not_count(api, register):
    body = {
        "url": "plain.mar", "model_name": "json", "initial_workers": "0", "batch_size": "8",
        "max_batch_delay": 7, "response_timeout": 5, "startup_timeout": None, "synchronous": "true",
    }  # fmt: skip
    assert api.post("/models?model_name=query&batch_size=x", json=body).status_code == 200
    (described,) = api.get("/models/json").json()
    assert (described["batchSize"], described["maxBatchDelay"]) == (8, 7)
    assert (described["responseTimeout"], described["startupTimeout"]) == (5, 120)
    assert api.delete("/models/json").status_code == 200


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "Parameter url is required."),
        ({"url": "plain.mar", "runtime": "java"}, "Invalid RuntimeType value: java"),
        (
            {"url": "plain.mar", "batch_size": "x"},
            "Parameter batch_size: must be an integer from 1 to 10000, got 'x'",
        ),
        (
            {"url": "plain.mar", "initial_workers": "-1"},
            "Parameter initial_workers: must be an integer from 0 to 10000, got '-1'",
        ),
        (
            {"url": "plain.mar", "max_attempts": "0"},
            "Parameter max_attempts: must be an integer from 1 to 2147483647, got '0'",
        ),
        (
            {"url": "plain.mar", "model_name": "a:b"},
            f"Invalid model name: 'a:b'. {MODEL_RULE}",
        ),
    ],
)
def test_wrong_parameters_are_named_with_what_is_allowed(api, parameters, message):
    assert error(api.post("/models", params=parameters), 400, "BadRequestException") == message


@pytest.mark.parametrize("body", [b"\xff", b'{"url": ["plain.mar"]}', b'{"url": 1, "batch_size": 1.5}'])
def test_bodies_that_are_no_parameters_are_400(api, body):
    answer = api.post("/models", content=body, headers={"content-type": "application/json; charset=utf-8"})
    error(answer, 400, "BadRequestException")


def test_an_archive_that_is_not_there_is_a_404(api):
    assert (
        error(api.post("/models?url=no.mar"), 404, "ModelNotFoundException") == "Model not found at: no.mar"
    )


def test_a_failed_synchronous_registration_tells_why_and_is_undone(api, database):
    for _ in range(2):  # the second time nothing of the first is left
        answer = api.post("/models?url=broken.mar")
        first, _, reason = error(answer, 500, "InternalServerException").partition("\n")
        assert first == "Failed to start workers for model broken version: 1.0"
        assert "RuntimeError: this module cannot be imported" in reason
        error(api.get("/models/broken"), 404, "ModelNotFoundException")
    assert database.keys("marq:{broken}:*") == []


def test_a_failed_asynchronous_registration_stays_and_describe_tells_why(api, register):
    register("broken.mar", synchronous="false")
    (described,) = api.get("/models/broken").json()
    assert all(worker["status"] == "UNLOADING" for worker in described["workers"])
    # When it has failed twice
    failure = wait_for(lambda: load_failure(api, "broken", least=2))
    # Then there is how often, since when, and the last lines of the log
    assert list(failure) == ["failures", "failingSince", "reason"]
    assert 0 < time.time() - _unix(failure["failingSince"]) < 3600
    assert "ended with exit code 1" in failure["reason"].splitlines()[0]
    assert failure["reason"].splitlines()[-1] == "RuntimeError: this module cannot be imported"
    assert "loadFailure" not in api.get("/models/echo").json()[0]


def load_failure(api, model, least=1):
    failure = api.get(f"/models/{model}").json()[0].get("loadFailure")
    return failure if failure and failure["failures"] >= least else None


@pytest.mark.slow
def test_describe_tells_no_failure_any_more_when_the_model_is_well(
    api, server, register, store, make_archive
):
    # Given a model whose replicas cannot be loaded
    ill = store / "ill"
    ill.touch()
    make_archive(store, "moody", MOODY.format(ill=str(ill)))
    register("moody.mar", synchronous="false")
    wait_for(lambda: load_failure(api, "moody"))
    # When what was wrong is put right
    ill.unlink()
    server.wait_until_ready("moody")
    # Then describe tells of it no more, once a replica has lasted
    wait_for(lambda: load_failure(api, "moody") is None)


def test_scaling_waits_for_what_it_changes_if_asked_to(api, server, register):
    register("plain.mar", initial_workers=0)
    scale = "/models/plain?synchronous=true&min_worker="
    assert status(api.put(f"{scale}2"), 200) == "Workers scaled to 2 for model: plain"
    assert len(server.workers("plain")) == 2
    answer = api.put("/models/plain/1.0?synchronous=true&min_worker=0")
    assert status(answer, 200) == "Workers scaled to 0 for model: plain, version: 1.0"
    assert server.workers("plain") == []
    assert server.predict("plain").status_code == 503


def test_keys_of_model_config_without_an_effect_are_in_the_answer_in_describe_and_in_status(
    api, server, store, make_archive, register
):
    make_archive(store, "vain", PLAIN, config={"parallelType": "tp", "batchSize": 'fo"ur\r\n'})
    # When a model is registered that TorchServe starts, too, without regard to two of its keys
    answer = register("vain.mar", initial_workers=0)
    # Then the answer says so
    status(answer, 200)
    assert answer.headers.get_list("warning") == [
        "299 marq \"batchSize: 'fo?ur?r?n' is ignored; it must be an integer.\"",
        '299 marq "parallelType has no effect without parallelLevel or torchrun"',
    ]
    # And describe and status do
    notice = "parallelType has no effect without parallelLevel or torchrun"
    [described] = api.get("/models/vain").json()
    assert notice in described["notices"]
    assert f"vain 1.0: {notice}" in server.marq("status").stdout
    # And marq's own command
    api.delete("/models/vain").raise_for_status()
    assert notice in " ".join(server.marq("register", "vain.mar", "--workers", "0").stderr.split())


def test_keys_of_model_config_that_cannot_be_followed_are_refused(api, store, make_archive, register):
    make_archive(store, "odd", PLAIN, config={"deviceType": "tpu", "minWorkers": 2, "maxWorkers": 1})
    said = error(register("odd.mar"), 400, "InvalidModelException").splitlines()
    assert said == [
        "deviceType must be one of cpu, gpu, cuda, rocm, xpu, mps, got 'tpu'",
        "minWorkers is 2, and maxWorkers is 1: maxWorkers must be at least minWorkers",
    ]
    error(api.get("/models/odd"), 404, "ModelNotFoundException")


def test_a_size_that_the_settings_exclude_is_refused(api, store, make_archive, register):
    config = {"useJobTicket": True, "idleTimeoutSec": 60, "minWorkers": 1, "maxWorkers": 1}
    make_archive(store, "ticketed", PLAIN, config=config)
    register("ticketed.mar").raise_for_status()
    said = error(api.put("/models/ticketed?min_worker=0&max_worker=2"), 400, "BadRequestException")
    assert said == (
        "0 to 2 replicas do not go with the settings of ticketed: useJobTicket and idleTimeoutSec exclude "
        "each other: with useJobTicket, a request is taken only by an idle replica. Switch one of them off."
    )
    [described] = api.get("/models/ticketed").json()
    assert (described["minWorkers"], described["maxWorkers"]) == (1, 1)
    status(api.put("/models/ticketed?min_worker=0&max_worker=0"), 202)
    status(api.put("/models/ticketed?max_attempts=2"), 200)


def newest_heartbeat(database):
    """When the node last compared what runs with the registry, in whole seconds."""
    [(_, moment)] = database.zrange(keys.NODES, -1, -1, withscores=True)
    return moment


def test_attempts_are_set_without_a_change_of_the_replicas(api, server, register, database):
    # Given a model that was registered with one attempt, and two replicas
    register("plain.mar", initial_workers=2, max_attempts=1)
    (described,) = api.get("/models/plain").json()
    assert described["maxAttempts"] == 1
    pids = {worker["pid"] for worker in server.workers("plain")}
    # When more are allowed
    set_at = newest_heartbeat(database)
    answer = api.put("/models/plain?max_attempts=5&synchronous=true")
    # Then that alone is changed
    assert status(answer, 200) == "maxAttempts set to 5 for model: plain"
    answer = api.put("/models/plain/1.0?max_attempts=4&min_worker=")
    assert status(answer, 200) == "maxAttempts set to 4 for model: plain, version: 1.0"
    (described,) = api.get("/models/plain").json()
    assert (described["maxAttempts"], described["minWorkers"], described["maxWorkers"]) == (4, 2, 2)
    wait_for(lambda: newest_heartbeat(database) > set_at + 1)  # the node has looked since
    assert {worker["pid"] for worker in server.workers("plain")} == pids
    # And with a size it comes along
    answer = api.put("/models/plain?max_attempts=2&min_worker=1&synchronous=true")
    assert status(answer, 200) == "Workers scaled to 1 for model: plain"
    (described,) = api.get("/models/plain").json()
    assert (described["maxAttempts"], described["minWorkers"]) == (2, 1)
    # And stays when the size is changed alone
    api.put("/models/plain?min_worker=2")
    assert api.get("/models/plain").json()[0]["maxAttempts"] == 2


def test_scaling_a_model_that_cannot_start_tells_why(api, register):
    register("broken.mar", initial_workers=0)
    answer = api.put("/models/broken?min_worker=1&synchronous=true")
    first, _, reason = error(answer, 500, "InternalServerException").partition("\n")
    assert first == "Failed to start workers for model broken version: null"
    assert "this module cannot be imported" in reason
    answer = api.put("/models/broken?min_worker=0&synchronous=true")
    assert status(answer, 200) == "Workers scaled to 0 for model: broken"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "max_worker=many",
            "Parameter max_worker: must be an integer from 0 to 10000, got 'many'",
        ),
        (
            "max_attempts=1.5",
            "Parameter max_attempts: must be an integer from 1 to 2147483647, got '1.5'",
        ),
    ],
)
def test_sizes_that_cannot_be_are_refused(api, query, message):
    assert error(api.put(f"/models/echo?{query}"), 400, "BadRequestException") == message


def test_unregistering_lets_run_what_runs_and_answers_what_waits(api, server, register, database, gate):
    register("slow.mar")
    with ThreadPoolExecutor(4) as threads:
        running = threads.submit(server.predict, "slow", str(gate).encode())
        gate.wait_until_reached()
        waiting = [threads.submit(server.predict, "slow", b"never") for _ in range(2)]
        job = httpx.post(f"{server.inference}/jobs/slow", content=b"never").json()["job_id"]
        lane = keys.lane("slow", "1.0", keys.LOW)
        database.xadd(lane, {"id": "own", "reply": "own-replies", "body": b"0"})
        database.xadd(lane, {"no": "body"})
        wait_for(lambda: database.xlen(keys.lane("slow", "1.0")) >= 4)
        unregistered = threads.submit(api.delete, "/models/slow")
        wait_for(lambda: httpx.get(f"{server.management}/models/slow").status_code == 404)
        server.wait_until_draining("slow")
        gate.open()
        assert status(unregistered.result(), 200) == 'Model "slow" unregistered'
        assert running.result().text == "done"
        for answer in (future.result() for future in waiting):
            message = error(answer, 503, "ServiceUnavailableException")
            assert message == "Model slow version 1.0 was unregistered before the request ran."
    record = httpx.get(f"{server.inference}/jobs/{job}").json()
    assert (record["state"], record["status"]) == ("failed", 503)
    assert httpx.get(f"{server.inference}/jobs/{job}/result").json()["type"] == "ServiceUnavailableException"
    (own,) = database.xrange("own-replies")
    assert [(r.id, r.status) for r in decode_replies([x for pair in own[1].items() for x in pair])] == [
        (b"own", 503)
    ]
    (letter,) = database.xrange(keys.dead_letters("slow"))
    assert letter[1][b"reason"] == b"the field `body` is missing"
    assert not database.exists(*keys.lanes("slow", "1.0"))
    assert server.predict("slow").status_code == 404


@contextlib.asynccontextmanager
async def application(settings):
    routes = Routes(settings)
    app = management_application(settings, routes, Tokens(required=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as client:
        yield client


async def test_without_enable_model_api_models_can_only_be_looked_at(redis_url, store, caplog):
    async with application(Settings(redis_url=redis_url, model_store=store)) as client:
        for method, path in (("POST", "/models?url=echo.mar&batch_size=x"), ("DELETE", "/models/echo")):
            message = error(await client.request(method, path), 405, "MethodNotAllowedException")
            assert message == "Requested method is not allowed, please refer to API document."
        assert (await client.get("/models")).json() == {"models": []}
        error(await client.put("/models/echo"), 404, "ModelNotFoundException")
    # And the log says once how to switch it on
    assert caplog.text.count("start the server with --enable-model-api") == 1


async def test_without_redis_clients_are_told_so():
    async with application(Settings(redis_url="redis://127.0.0.1:1/0")) as client:
        error(await client.get("/models"), 503, "ServiceUnavailableException")
