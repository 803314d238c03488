"""The ASGI endpoint without a server and without Redis."""

import asyncio
import json

import pytest
from gateway_in_process import GatewayInProcess

from gateway.inference.answer import Inference
from gateway.inference.urls import Target

TARGET = Target("m", "1.0", "a/b")
FORM = (b"content-type", b"application/x-www-form-urlencoded")
MULTIPART = (b"content-type", b"multipart/form-data; boundary=B")
PART = b'--B\r\nContent-Disposition: form-data; name="model_name"\r\n\r\nm\r\n--B--\r\n'


class Client:
    """One request to the endpoint: `parts` of its body, what was `sent` as the answer."""

    def __init__(self, gateway, *parts, headers=(), query=b"", target=TARGET):
        self.sent = []
        self._gateway = gateway
        self._messages = asyncio.Queue()
        for number, part in enumerate(parts, 1):
            self.receive({"type": "http.request", "body": part, "more_body": number < len(parts)})
        scope = {
            "type": "http", "method": "POST", "path": "/invocations", "headers": list(headers),
            "query_string": query,
        }  # fmt: skip
        inference = Inference(gateway.predictor, gateway.routes, 10)
        self.task = asyncio.create_task(inference(scope, self._messages.get, self._send, target))

    def receive(self, message):
        self._messages.put_nowait(message)

    async def _send(self, message):
        self.sent.append(message)

    async def queued(self) -> bytes:
        """The id of the request, once it is on its way to Redis."""
        async with asyncio.timeout(60):
            while not (ids := await self._gateway.queued()):
                await asyncio.sleep(0.001)
        return ids[-1]

    async def answer(self) -> tuple[int, dict[bytes, bytes], list[bytes]]:
        """Status, headers, and the parts of the body."""
        await asyncio.wait_for(self.task, 60)
        start, *rest = self.sent
        return start["status"], dict(start["headers"]), [message["body"] for message in rest]

    async def error(self) -> tuple[int, str]:
        status, headers, [body] = await self.answer()
        assert headers[b"content-type"] == b"application/json"
        assert json.loads(body)["code"] == status
        assert await self._gateway.queued() == []
        return status, json.loads(body)["message"]


@pytest.fixture
async def gateway():
    return GatewayInProcess(limit=100)


async def test_a_whole_answer(gateway):
    client = Client(gateway, b"one ", b"two", headers=[(b"content-type", b"text/plain")])
    request_id = await client.queued()
    sent = gateway.redis.written
    assert b"$4\r\npath\r\n$3\r\na/b\r\n" in sent
    assert b"deadline" not in sent
    assert sent.endswith(b"$4\r\nbody\r\n$7\r\none two\r\n")
    gateway.reply(request_id, b"answer", 201, headers=b'{"X-A": "b", "Transfer-Encoding": "chunked"}')
    status, headers, body = await client.answer()
    assert (status, body) == (201, [b"answer"])
    assert (headers[b"x-request-id"], headers[b"content-length"], headers[b"x-a"]) == (request_id, b"6", b"b")
    assert b"transfer-encoding" not in headers
    assert gateway.route.backlog.waiting == 0


async def test_a_streamed_answer_has_a_message_for_each_part(gateway):
    client = Client(gateway, b"x")
    request_id = await client.queued()
    gateway.reply(request_id, b"one", 206, more=1)
    gateway.reply(request_id, b"two", 206, more=2)
    gateway.reply(request_id, b"end")
    status, headers, body = await client.answer()
    assert (status, body) == (206, [b"one", b"two", b"end"])
    assert b"content-length" not in headers
    assert [message.get("more_body", False) for message in client.sent[1:]] == [True, True, False]


async def test_an_answer_that_is_cut_off_has_no_last_part(gateway, caplog):
    client = Client(gateway, b"x")
    request_id = await client.queued()
    gateway.reply(request_id, b"one", more=1)
    gateway.reply(request_id, b"three", more=3)
    assert (await client.answer())[2] == [b"one"]
    assert client.sent[-1]["more_body"]
    assert "The answer was cut off" in caplog.text


async def test_an_answer_that_comes_too_late_is_an_error_and_its_request_is_cancelled(gateway):
    client = Client(gateway, b"x", headers=[(b"x-request-timeout", b"0.02")])
    gateway.broker._on_queued(await client.queued(), b"1-1")
    assert b"$8\r\ndeadline\r\n$13\r\n" in gateway.redis.written
    status, _, [body] = await client.answer()
    assert status >= 500
    assert "No answer within 0.02 s" in json.loads(body)["message"]
    assert gateway.broker.in_flight == 0


async def test_a_client_that_goes_away_cancels_its_request(gateway):
    client = Client(gateway, b"x")
    gateway.broker._on_queued(await client.queued(), b"1-1")
    client.receive({"type": "http.disconnect"})
    await asyncio.wait_for(client.task, 60)
    assert gateway.broker.in_flight == 0


async def test_a_body_that_is_cut_off_is_not_run(gateway):
    client = Client(gateway)
    client.receive({"type": "http.request", "body": b"one", "more_body": True})
    client.receive({"type": "http.disconnect"})
    assert await client.error() == (400, "The connection ended before the request was complete.")


@pytest.mark.parametrize(
    ("parts", "headers"),
    [((b"x" * 101,), ()), ((b"x" * 60, b"x" * 60), ()), ((b"", b""), [(b"content-length", b"101")])],
)
async def test_a_body_over_the_limit_is_refused(gateway, parts, headers):
    assert (await Client(gateway, *parts, headers=headers).error())[0] == 413


async def test_requests_that_cannot_be_run_are_refused_before_their_body_is_read(gateway):
    assert (await Client(gateway, target=Target("other")).error())[0] == 404
    gateway.route.unavailable = "no worker"
    assert await Client(gateway).error() == (503, "no worker")
    gateway.predictor._tokens.required, gateway.predictor._tokens.is_open = True, False
    for target in (TARGET, Target("other"), Target()):
        assert (await Client(gateway, target=target).error())[0] == 400


async def test_a_wrong_time_out_is_refused(gateway):
    client = Client(gateway, b"x", headers=[(b"x-request-timeout", b"soon")])
    assert (await client.error())[0] == 400


@pytest.mark.parametrize(
    ("body", "headers", "query"),
    [
        (b"x", (), b"model_name=m"),
        (b"a=b&model_name=m", [FORM], b""),
        (PART, [MULTIPART], b""),
    ],
)
async def test_a_request_may_name_its_model(gateway, body, headers, query):
    client = Client(gateway, body, headers=headers, query=query, target=Target(takes_query=True))
    gateway.reply(await client.queued())
    assert (await client.answer())[0] == 200
    assert (b"$6\r\nparams\r\n" in gateway.redis.written) == bool(query)
    assert b"$4\r\npath\r\n" not in gateway.redis.written


async def test_the_only_model_that_the_server_was_started_with_needs_no_name(gateway):
    gateway.routes.startup_models = ["m"]
    client = Client(gateway, b"x", target=Target())
    gateway.reply(await client.queued())
    assert (await client.answer())[0] == 200


@pytest.mark.parametrize("headers", [(), [FORM], [MULTIPART], [(b"content-type", b"multipart/form-data")]])
async def test_else_the_name_is_required(gateway, headers):
    gateway.routes.startup_models = ["m", "other"]
    client = Client(gateway, b"a=b", headers=headers, target=Target())
    assert await client.error() == (400, "Parameter model_name is required.")


@pytest.mark.parametrize("explain", [True, False])
async def test_handlers_learn_whether_an_explanation_was_asked_for(gateway, explain):
    client = Client(gateway, b"x", target=Target("m", explain=explain))
    gateway.reply(await client.queued())
    assert b'"explain":"%b"' % str(explain).encode() in gateway.redis.written
    assert (await client.answer())[0] == 200
