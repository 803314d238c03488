"""`/webhooks` over HTTP, on the management address."""

import httpx
import pytest

from gateway.application import management_application
from gateway.auth.tokens import Tokens
from gateway.routing.routes import Routes
from marq import keys
from marq.connections import clients
from marq.settings.fields import Settings


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def leave(client):
    """Leaves a message about a job: leave("msg_1", "due", job="7")."""

    def leave(message, which, moment_ms=1_700_000_000_000, model="echo", **fields):
        about = {
            "url": "http://example.org/hook", "job": "7", "version": "1.0", "state": "failed",
            "status": "500", "tags": "", "ended": "1700000000000", "tries": "2", "error": "no", **fields,
        }  # fmt: skip
        client.zadd(keys.WEBHOOKS, {model: 1})
        client.hset(keys.webhook(model, message), mapping=about)
        client.zadd(keys.webhooks(model, which), {message: moment_ms})

    return leave


@pytest.fixture
async def api(redis_url):
    config = Settings(redis_url=redis_url)
    app = management_application(config, Routes(config), Tokens(required=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as api:
        yield api


async def test_messages_are_listed_and_counted(api, leave):
    leave("msg_a", "due", 1_700_000_005_000)
    leave("msg_b", "failed")
    leave("msg_c", "failed", 1_700_000_009_000, model="other")
    found = (await api.get("/webhooks")).json()
    assert [each["id"] for each in found["webhooks"]] == ["msg_c", "msg_b", "msg_a"]
    assert found["counts"] == {"pending": 1, "failed": 2}
    assert found["webhooks"][2] == {
        "id": "msg_a", "delivery": "pending", "url": "http://example.org/hook", "job_id": "echo:7",
            "group": None,
        "model": "echo", "state": "failed", "tries": 2, "next_try": 1_700_000_005.0, "error": "no",
    }  # fmt: skip
    of_one = (await api.get("/webhooks?model=echo&delivery=failed&limit=5")).json()
    assert [each["id"] for each in of_one["webhooks"]] == ["msg_b"]
    assert of_one["counts"] == {"pending": 1, "failed": 1}


async def test_a_message_is_shown_with_its_body(api, leave):
    leave("msg_a", "failed")
    shown = (await api.get("/webhooks/msg_a")).json()
    assert (shown["delivery"], shown["failed"]) == ("failed", 1_700_000_000.0)
    assert '"type": "job.failed"' in shown["body"]


async def test_a_replayed_message_is_due_again(api, leave, client):
    leave("msg_a", "failed")
    answer = await api.post("/webhooks/msg_a/replay")
    assert (answer.status_code, answer.json()) == (202, {"replayed": "msg_a"})
    assert client.zrange(keys.webhooks("echo", "due"), 0, -1) == [b"msg_a"]
    assert (await api.get("/webhooks")).json()["counts"] == {"pending": 1, "failed": 0}


@pytest.mark.parametrize(("method", "path"), [("GET", "/webhooks/msg_x"), ("POST", "/webhooks/msg_x/replay")])
async def test_an_unknown_message_is_not_found(api, method, path):
    answer = await api.request(method, path)
    assert (answer.status_code, answer.json()["type"]) == (404, "WebhookNotFoundException")


@pytest.mark.parametrize("query", ["delivery=lost", "limit=0", "limit=1001"])
async def test_a_wrong_parameter_is_refused(api, query):
    answer = await api.get(f"/webhooks?{query}")
    assert answer.status_code == 422
    assert query.partition("=")[0] in answer.json()["message"]
