"""Contract 3: tokens and the control of the model API."""

import json
import re
import stat
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import redis
from contract import DEFAULTS, NOT_ALLOWED, error
from ports import free_port
from support import wait_for

from marq.host import server_file
from marq.keys import GATEWAYS, TOKENS
from marq.registry import token_store
from marq.registry.models import Registry

WRONG = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
NOT_RENEWED = "Token Authentication failed. Token either incorrect, expired, or not provided correctly"
INFERENCE, MANAGEMENT = "inference", "management"


@pytest.fixture(scope="module")
def server(start_server, store):
    config = {**DEFAULTS, "default_workers_per_model": 1, "gateway_workers": 2}
    return start_server(store, ["tell.mar"], ["--enable-model-api"], **config)


@pytest.fixture
def keys(server):
    """The key file as it is now: keys(server)["inference"]["key"]."""
    return read_keys(server)


def read_keys(server):
    return json.loads(key_file(server).read_text())


def key_file(server) -> Path:
    return server.log.with_name("key_file.json")


def ask(server, plane, path, key="", method="GET"):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.request(method, getattr(server, plane) + path, headers=headers, timeout=60)


# the key file


def test_the_key_file_lies_in_the_working_directory_for_the_user_alone(server, keys):
    assert stat.S_IMODE(key_file(server).stat().st_mode) == 0o600
    assert set(keys) == {MANAGEMENT, INFERENCE, "API"}
    assert len({entry["key"] for entry in keys.values()}) == 3
    assert all(re.fullmatch(r"[\w-]{8,}", entry["key"]) for entry in keys.values())


def test_keys_expire_after_60_minutes_except_the_api_key(keys):
    assert "expiration time" not in keys["API"]
    for plane in (INFERENCE, MANAGEMENT):
        expires = datetime.fromisoformat(keys[plane]["expiration time"])
        assert 3000 < (expires - datetime.now(UTC)).total_seconds() <= 3600


# which key a plane takes

PLANES = [
    pytest.param(INFERENCE, "/ping", INFERENCE, id="inference REST: /ping"),
    pytest.param(INFERENCE, "/explanations/tell", INFERENCE, id="inference REST: a model"),
    pytest.param(INFERENCE, "/predictions/tell", INFERENCE, id="inference REST: /predictions"),
    pytest.param(INFERENCE, "/v2/health/live", INFERENCE, id="inference REST: OIP"),
    pytest.param(INFERENCE, "/nothing", INFERENCE, id="inference REST: a route that is not there"),
    pytest.param(MANAGEMENT, "/models", MANAGEMENT, id="management REST"),
    pytest.param(MANAGEMENT, "/v1/models/tell", MANAGEMENT, id="management REST: KServe"),
]


@pytest.mark.parametrize(("plane", "path", "name"), PLANES)
def test_plane(server, keys, plane, path, name):
    wait_until_ready(server)
    assert ask(server, plane, path, keys[name]["key"]).status_code in (200, 404)
    for other in {MANAGEMENT, INFERENCE, "API"} - {name}:
        assert error(ask(server, plane, path, keys[other]["key"]), 400, "InvalidKeyException") == WRONG
    for key in ("", "wrong"):
        assert error(ask(server, plane, path, key), 400, "InvalidKeyException") == WRONG


def wait_until_ready(server):
    def ready():
        key = read_keys(server)[MANAGEMENT]["key"]
        return ask(server, MANAGEMENT, "/v1/models/tell", key).json()["ready"]

    wait_for(ready)


@pytest.mark.parametrize("plane", [INFERENCE, MANAGEMENT])
@pytest.mark.parametrize(
    ("method", "path"), [("OPTIONS", "/"), ("GET", "/api-description"), ("GET", "/docs")]
)
def test_documents_need_no_key(server, plane, method, path):
    assert ask(server, plane, path, method=method).status_code == 200


@pytest.mark.parametrize("header", ["bearer {}", "Bearer", "{}", "Basic {}", "Bearer {} x"])
def test_the_header_has_one_form(server, keys, header):
    value = header.format(keys[MANAGEMENT]["key"])
    answer = httpx.get(f"{server.management}/models", headers={"Authorization": value})
    assert error(answer, 400, "InvalidKeyException") == WRONG


@pytest.mark.parametrize("host", ["example.org/docs?", "example.org/token#", "example.org/api-description?"])
def test_a_host_header_cannot_make_a_path_look_open(server, host):
    answer = httpx.get(f"{server.management}/models", headers={"Host": host})
    assert error(answer, 400, "InvalidKeyException") == WRONG


def test_marqs_own_routes_answer_401(server, keys):
    answer = httpx.post(f"{server.inference}/jobs/tell", headers={"Authorization": "Bearer wrong"})
    assert error(answer, 401, "Unauthorized") == WRONG
    assert answer.headers["www-authenticate"] == "Bearer"
    assert ask(server, INFERENCE, "/jobs/tell", keys[INFERENCE]["key"], "POST").status_code == 202


def test_the_commands_of_this_host_have_a_token_for_both_planes(server, keys):
    own = server_file.find(server.state_dir).token
    assert own not in {entry["key"] for entry in keys.values()}
    assert ask(server, INFERENCE, "/ping", own).status_code == 200
    assert ask(server, MANAGEMENT, "/models", own).status_code == 200
    error(ask(server, MANAGEMENT, "/token?type=inference", own), 400, "InvalidKeyException")


# /token


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("plane", [INFERENCE, MANAGEMENT])
def test_token_makes_a_new_key_for(server, keys, plane, method):
    answer = ask(server, MANAGEMENT, f"/token?type={plane}", keys["API"]["key"], method)
    assert (answer.status_code, answer.text) == (200, "\n")
    assert answer.headers["content-type"] == "application/json"
    renewed = read_keys(server)
    assert renewed[plane]["key"] != keys[plane]["key"]
    assert {name for name in keys if renewed[name] != keys[name]} == {plane}
    path = "/ping" if plane == INFERENCE else "/models"
    for _ in range(5):  # whichever gateway answers
        assert ask(server, plane, path, renewed[plane]["key"]).status_code == 200
        error(ask(server, plane, path, keys[plane]["key"]), 400, "InvalidKeyException")


def test_token_answers_when_all_gateways_know_the_new_key(server, keys):
    with redis.Redis.from_url(server.redis_url) as client:
        before = Registry(client).now()
        assert ask(server, MANAGEMENT, "/token?type=inference", keys["API"]["key"]).status_code == 200
        gateways = client.zrange(GATEWAYS, 0, -1, withscores=True)
    assert len(gateways) == 2
    assert all(read > before for _, read in gateways)


@pytest.mark.parametrize(
    ("name", "query"),
    [
        pytest.param(MANAGEMENT, "type=inference", id="management key"),
        pytest.param(INFERENCE, "type=inference", id="inference key"),
        pytest.param("API", "", id="missing type"),
        pytest.param("API", "type=API", id="bad type"),
    ],
)
def test_token_refuses(server, keys, name, query):
    answer = ask(server, MANAGEMENT, f"/token?{query}", keys[name]["key"])
    assert error(answer, 400, "InvalidKeyException") == NOT_RENEWED
    assert error(ask(server, MANAGEMENT, f"/token?{query}"), 400, "InvalidKeyException") == NOT_RENEWED
    assert read_keys(server) == keys


def test_token_is_on_the_management_address_only(server, keys):
    error(
        ask(server, INFERENCE, "/token?type=inference", keys[INFERENCE]["key"]),
        404,
        "ResourceNotFoundException",
    )


def test_a_referer_with_token_changes_nothing(server, keys):
    headers = {"Authorization": f"Bearer {keys[MANAGEMENT]['key']}", "Referer": "http://example.org/token"}
    assert httpx.get(f"{server.management}/models", headers=headers).json()["models"]


# one address for both APIs (1.12)


@pytest.fixture(scope="module")
def shared(start_server, store):
    address = f"http://127.0.0.1:{free_port()}"
    config = {**DEFAULTS, "inference_address": address, "management_address": address}
    return start_server(store, ["tell.mar"], ["--enable-model-api"], **config)


def test_on_a_shared_address_each_route_takes_its_planes_key(shared):
    keys = read_keys(shared)
    ways = [
        (INFERENCE, "GET", "/ping"), (INFERENCE, "GET", "/v2"), (INFERENCE, "GET", "/v1/models/tell"),
        (MANAGEMENT, "GET", "/models"), (MANAGEMENT, "GET", "/models/tell/1.0"),
        (MANAGEMENT, "PUT", "/models/tell/1.0/set-default"), (MANAGEMENT, "OPTIONS", "/models/tell"),
    ]  # fmt: skip
    for plane, method, path in ways:
        assert ask(shared, plane, path, keys[plane]["key"], method).status_code == 200, path
        other = ({INFERENCE, MANAGEMENT} - {plane}).pop()
        error(ask(shared, plane, path, keys[other]["key"], method), 400, "InvalidKeyException")


def test_a_shared_address_has_one_document_for_everything(shared):
    paths = ask(shared, INFERENCE, "/", method="OPTIONS").json()["paths"]
    assert {"/predictions/{model_name}", "/models", "/jobs/{model}", "/token", "/v2"} <= paths.keys()


def test_an_expired_key_is_refused_until_it_is_renewed(shared):
    keys = read_keys(shared)
    with redis.Redis.from_url(shared.redis_url) as client:
        a_second_ago = int(time.time() * 1000) - 1000
        client.hset(TOKENS, mapping={f"{plane}:expires": a_second_ago for plane in (INFERENCE, MANAGEMENT)})
    wait_for(lambda: ask(shared, INFERENCE, "/ping", keys[INFERENCE]["key"]).status_code == 400)
    assert error(ask(shared, INFERENCE, "/ping", keys[INFERENCE]["key"]), 400, "InvalidKeyException") == WRONG
    error(ask(shared, MANAGEMENT, "/models", keys[MANAGEMENT]["key"]), 400, "InvalidKeyException")
    assert ask(shared, INFERENCE, "/ping", server_file.find(shared.state_dir).token).status_code == 200
    assert ask(shared, MANAGEMENT, "/token?type=inference", keys["API"]["key"]).status_code == 200
    assert ask(shared, INFERENCE, "/ping", read_keys(shared)[INFERENCE]["key"]).status_code == 200


def test_the_key_file_follows_another_host_that_starts_with_the_same_redis(shared):
    before = read_keys(shared)
    with redis.Redis.from_url(shared.redis_url) as client:
        token_store.create(client, 60)
    wait_for(lambda: read_keys(shared) != before)
    keys = read_keys(shared)
    assert all(keys[name]["key"] != before[name]["key"] for name in keys)
    assert ask(shared, INFERENCE, "/ping", keys[INFERENCE]["key"]).status_code == 200
    assert ask(shared, INFERENCE, "/ping", server_file.find(shared.state_dir).token).status_code == 200


# enable_model_api


def test_enable_model_api_is_off_by_default(start_server, store):
    server = start_server(store, [], **{**DEFAULTS, "enable_model_api": False})
    for method, path in (("POST", "/models?url=tell.mar"), ("DELETE", "/models/tell")):
        answer = httpx.request(method, server.management + path)
        assert error(answer, 405, "MethodNotAllowedException") == NOT_ALLOWED
    assert httpx.get(f"{server.management}/models").json() == {"models": []}
    error(httpx.put(f"{server.management}/models/tell"), 404, "ModelNotFoundException")
    error(httpx.get(f"{server.management}/token?type=inference"), 404, "ResourceNotFoundException")


def test_the_command_line_enables_it(server, keys):
    path = "/models?url=tell.mar&model_name=new&initial_workers=0"
    assert ask(server, MANAGEMENT, path, keys[MANAGEMENT]["key"], "POST").status_code == 200
    assert ask(server, MANAGEMENT, "/models/new", keys[MANAGEMENT]["key"], "DELETE").status_code == 200


def test_a_token_that_cannot_be_written_does_not_change(shared):
    # Given a key file that cannot be replaced, because a directory has its name
    keys, file = read_keys(shared), key_file(shared)
    file.rename(file.with_suffix(".away"))
    (file / "in the way").mkdir(parents=True)
    try:
        # When a token is to be renewed
        refused = ask(shared, MANAGEMENT, "/token?type=inference", keys["API"]["key"])
    finally:
        (file / "in the way").rmdir()
        file.rmdir()
        file.with_suffix(".away").rename(file)
    # Then the answer says why it was not, and the old one is valid
    assert error(refused, 503, "ServiceUnavailableException").startswith(
        "The token is not renewed, because key_file.json cannot be written"
    )
    assert ask(shared, INFERENCE, "/ping", keys[INFERENCE]["key"]).status_code == 200
    assert read_keys(shared) == keys
    assert ask(shared, MANAGEMENT, "/token?type=inference", keys["API"]["key"]).status_code == 200
    assert ask(shared, INFERENCE, "/ping", read_keys(shared)[INFERENCE]["key"]).status_code == 200


def test_a_key_file_that_cannot_be_written_keeps_no_gateway_from_hearing_of_models(shared):
    # Given a key file that cannot be replaced, because a directory has its name
    keys, file = read_keys(shared), key_file(shared)
    file.rename(file.with_suffix(".away"))
    (file / "in the way").mkdir(parents=True)
    with redis.Redis.from_url(shared.redis_url) as client:
        # When a token is renewed
        token_store.renew(client, INFERENCE, 60)
        wait_for(lambda: ask(shared, INFERENCE, "/ping", keys[INFERENCE]["key"]).status_code == 400)
        # Then the gateways still hear of a model that is registered afterwards
        path = "/models?url=tell.mar&model_name=heard&initial_workers=1&synchronous=true"
        assert ask(shared, MANAGEMENT, path, keys[MANAGEMENT]["key"], "POST").status_code == 200
        key = client.hget(TOKENS, INFERENCE).decode()
    assert ask(shared, INFERENCE, "/predictions/heard", key, "POST").status_code == 200
    # And the file is written as soon as it can be
    (file / "in the way").rmdir()
    file.rmdir()
    wait_for(lambda: file.exists() and read_keys(shared)[INFERENCE]["key"] == key, what="the key file")
