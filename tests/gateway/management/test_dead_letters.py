"""`/dead-letters` over HTTP, on the management address."""

import base64
import contextlib
import json

import httpx
import pytest
from thread_replica import make_spec

from gateway.application import management_application
from gateway.auth.tokens import Tokens
from gateway.routing.routes import Routes
from marq import keys
from marq.connections import clients
from marq.connections.blocking import Connection
from marq.queue.giving_up import Death, bury
from marq.registry.models import Registry
from marq.settings.fields import Settings

LANE = keys.lane("echo", "1.0")
JSON = {"content-type": "application/json"}
KILLED = Death("given up", 3, "cpu", "signal 9", "Boom")


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def spec(client):
    spec = make_spec()
    Registry(client).register(spec)
    return spec


@contextlib.asynccontextmanager
async def application(redis_url, tokens=None, **settings):
    config = Settings(redis_url=redis_url, **settings)
    app = management_application(config, Routes(config), tokens or Tokens(required=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as api:
        yield api


@pytest.fixture
async def api(redis_url):
    async with application(redis_url, max_management_request_size=10_000) as api:
        yield api


@pytest.fixture
def kill(redis_url, client, spec):
    """Buries requests: kill(b"one", b"two", type="text/plain") -> the letters' ids. None: it has no body."""
    plain = Connection(redis_url)

    def kill(*bodies, **fields):
        found = []
        for body in bodies:
            entry = client.xadd(LANE, {**fields, "data" if body is None else "body": body or b""})
            found.append(plain.pipeline(bury(spec, LANE, entry, KILLED))[-1].decode())
        return found

    yield kill
    plain.close()


def error(answer, code, kind):
    assert answer.status_code == code, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert list(answer.json()) == ["code", "type", "message"]
    assert (answer.json()["code"], answer.json()["type"]) == (code, kind)
    return answer.json()["message"]


# looking


async def test_each_model_is_counted(api, kill):
    assert (await api.get("/dead-letters")).json() == {"models": []}
    first, *_, last = kill(b"1", b"2", b"3")
    [echo] = (await api.get("/dead-letters")).json()["models"]
    assert (echo["model"], echo["count"]) == ("echo", 3)
    assert echo["bytes"] > 0
    assert [echo["oldest"], echo["newest"]] == [int(each.split("-")[0]) / 1000 for each in (first, last)]


async def test_letters_are_listed_in_pages_without_their_input(api, kill):
    ids = kill(b"1", b"2", b"3", type="text/plain", id="7")
    first = (await api.get("/dead-letters/echo?limit=2")).json()
    second = (await api.get(f"/dead-letters/echo?limit=2&before={first['next']}")).json()
    assert [letter["id"] for letter in first["dead_letters"] + second["dead_letters"]] == ids[::-1]
    assert "next" not in second
    [letter] = second["dead_letters"]
    told = {
        "id": ids[0], "reason": "given up", "version": "1.0", "attempts": 3, "device": "cpu",
        "ending": "signal 9", "log": "Boom", "lane": LANE, "request_id": "7", "replay_of": None,
        "content_type": "text/plain", "size": 1, "replayable": True,
    }  # fmt: skip
    assert {name: letter[name] for name in told} == told
    assert "input" not in letter


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "before=x", "before=1"])
async def test_a_wrong_page_is_refused(api, kill, query):
    message = error(await api.get(f"/dead-letters/echo?{query}"), 422, "BadRequestException")
    assert query.split("=")[0] in message


async def test_a_letter_is_shown_with_its_input_and_no_secrets(api, kill):
    headers = json.dumps({"Authorization": "Bearer secret", "accept": "a/b"})
    [text, binary] = kill('{"ü": 1}'.encode(), b"\xff\x00", headers=headers, params="a=1")
    shown = (await api.get(f"/dead-letters/echo/{text}")).json()
    assert (shown["input"], shown["size"]) == ('{"ü": 1}', 9)
    assert shown["fields"]["params"] == "a=1"
    assert json.loads(shown["fields"]["headers"]) == {"Authorization": "***", "accept": "a/b"}
    shown = (await api.get(f"/dead-letters/echo/{binary}")).json()
    assert (base64.b64decode(shown["input_base64"]), shown["size"]) == (b"\xff\x00", 2)


@pytest.mark.parametrize(
    ("given", "sent"),
    [("image/png", "image/png"), ("", "application/octet-stream"), ("a\r\nb: c", "application/octet-stream")],
)
async def test_the_body_is_sent_as_it_came(api, kill, given, sent):
    [letter] = kill(b"\x00\xff", type=given)
    answer = await api.get(f"/dead-letters/echo/{letter}/body")
    assert (answer.content, answer.headers["content-type"]) == (b"\x00\xff", sent)


@pytest.mark.parametrize("path", ["/1-1", "/nonsense", "/1-1/body", "/nonsense/body"])
async def test_an_unknown_letter_is_a_404(api, kill, path):
    kill(b"x")
    error(await api.get(f"/dead-letters/echo{path}"), 404, "ResourceNotFoundException")


async def test_an_unknown_model_is_a_404_and_one_without_letters_is_not(api, spec):
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/replay")):
        request = {"content": b'{"all": true}'} if method == "POST" else {}
        answer = await api.request(method, f"/dead-letters/nobody{path}", **request)
        error(answer, 404, "ModelNotFoundException")
        assert (await api.request(method, f"/dead-letters/echo{path}", **request)).status_code < 300


# replaying


async def test_letters_are_replayed_as_jobs(api, kill, client):
    one, two, three = kill(b"1", b"2", b"3")
    answer = await api.post("/dead-letters/echo/replay", json={"ids": [two]})
    assert answer.status_code == 202
    [replayed] = answer.json()["replayed"]
    assert replayed["id"] == two
    answer = await api.post("/dead-letters/echo/replay", json={"all": True})
    assert [each["id"] for each in answer.json()["replayed"]] == [one, three]
    assert answer.json()["refused"] == []
    assert [fields[b"body"] for _, fields in client.xrange(LANE)] == [b"2", b"1", b"3"]
    model, _, request_id = replayed["job_id"].partition(":")
    assert client.hget(keys.job(model, request_id), "state") == b"queued"
    assert (await api.get("/dead-letters")).json() == {"models": []}


async def test_what_cannot_be_replayed_is_told(api, kill):
    good, bad = kill(b"x", None)
    answer = await api.post("/dead-letters/echo/replay", json={"ids": [bad]})
    assert "`body` is missing" in error(answer, 409, "ConflictStatusException")
    answer = await api.post("/dead-letters/echo/replay", json={"ids": ["1-1"]})
    error(answer, 404, "ResourceNotFoundException")
    answer = await api.post("/dead-letters/echo/replay", json={"ids": [good], "version": "9"})
    error(answer, 404, "ModelVersionNotFoundException")
    answer = await api.post("/dead-letters/echo/replay", json={"all": True})
    assert answer.status_code == 202
    assert [each["id"] for each in answer.json()["replayed"]] == [good]
    [refused] = answer.json()["refused"]
    assert refused["id"] == bad
    assert "`body` is missing" in refused["reason"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{}", 'give either "ids" or "all": true'),
        (b'{"all": true, "ids": ["1-1"]}', 'give either "ids" or "all": true'),
        (b'{"id": "1-1", "all": true}', "id"),
        (b'{"ids": "1-1"}', "ids"),
        (b"[", "body"),
        (b"", "body"),
        (json.dumps({"ids": ["1-1"] * 1001}).encode(), "1000"),
    ],
)
async def test_a_wrong_order_is_refused(api, kill, body, told):
    kill(b"x")
    answer = await api.post("/dead-letters/echo/replay", content=body, headers=JSON)
    assert told in error(answer, 422, "BadRequestException")
    assert (await api.get("/dead-letters")).json()["models"][0]["count"] == 1


async def test_an_order_that_is_too_large_is_refused(api, kill):
    answer = await api.post("/dead-letters/echo/replay", content=b" " * 10_001)
    error(answer, 413, "RequestTooLargeException")


# deleting


async def test_one_or_all_are_deleted(api, kill):
    first, *_ = kill(b"1", b"2", b"3")
    assert (await api.delete(f"/dead-letters/echo/{first}")).json() == {"deleted": 1}
    error(await api.delete(f"/dead-letters/echo/{first}"), 404, "ResourceNotFoundException")
    assert (await api.delete("/dead-letters/echo")).json() == {"deleted": 2}
    assert (await api.get("/dead-letters/echo")).json() == {"dead_letters": []}


# who may


async def test_the_management_token_is_needed(redis_url, kill):
    async with application(redis_url, Tokens(True, "secret")) as api:
        for path in ("/dead-letters", "/dead-letters/echo"):
            error(await api.get(path), 401, "Unauthorized")
            assert (await api.get(path, headers={"authorization": "Bearer secret"})).status_code == 200


async def test_without_redis_it_is_told():
    async with application("redis://127.0.0.1:1/0") as api:
        error(await api.get("/dead-letters"), 503, "ServiceUnavailableException")
