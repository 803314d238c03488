"""The fast path, byte by byte: no sockets, no Redis."""

import asyncio
import json
from dataclasses import replace

import pytest
from gateway_in_process import GatewayInProcess, request

from benchmarks.fast_path import measure
from gateway.http import connection_limit
from gateway.http.access_log import AccessLog, LoggedProtocol
from gateway.routing.route import Route
from marq.queue.replies.parts import MOST_UNREAD


class Recorder:
    """A hook that notes the final statuses."""

    def __init__(self):
        self.statuses = []

    def before(self, route, fields):
        pass

    def after(self, route, fields, end):
        self.statuses.append(end.status)


@pytest.fixture
def hook():
    return Recorder()


@pytest.fixture
async def gateway(hook):
    return GatewayInProcess([hook])


@pytest.fixture
async def client(gateway):
    return gateway.connect()


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


def head_and_body(written: bytes) -> tuple[list[bytes], bytes]:
    head, _, body = written.partition(b"\r\n\r\n")
    return head.split(b"\r\n"), body


async def test_a_request_becomes_an_entry_and_its_reply_the_response(gateway, client):
    protocol, transport = client
    protocol.data_received(request(b"hello", "Content-Type: text/plain"))
    [request_id] = await gateway.queued()
    sent = gateway.redis.written
    assert b"\r\nmarq:{m}:normal:1.0\r\n" in sent
    assert b"$4\r\ntype\r\n$10\r\ntext/plain\r\n" in sent
    assert b"$4\r\npath\r\n$0\r\n\r\n" in sent
    assert b'"Host":"x"' in sent
    assert sent.endswith(b"$4\r\nbody\r\n$5\r\nhello\r\n")
    assert transport.written == b""
    gateway.reply(
        request_id, b"answer", 201, headers=b'{"Content-Type": "text/plain", "Connection": "close"}'
    )
    lines, body = head_and_body(transport.written)
    assert lines[:2] == [b"HTTP/1.1 201 Created", b"x-request-id: " + request_id]
    assert lines[-2:] == [b"content-type: text/plain", b"content-length: 6"]
    assert body == b"answer"
    assert not transport.closed
    assert gateway.counted() == {201: 1}


@pytest.mark.parametrize("more", [0, 1], ids=["whole", "first part"])
@pytest.mark.parametrize(
    "headers", [b"{", b"[]", b'{"x": 1}', b'{"x": "a\\r\\nb: c"}', b'{"\\u0142": "x"}', b'{"x": "\\ud800"}']
)
async def test_headers_of_a_foreign_writer_that_cannot_be_sent_become_an_error(
    gateway, client, headers, more
):
    protocol, transport = client
    protocol.data_received(request())
    [request_id] = await gateway.queued()
    gateway.deliver(request_id, b"answer", headers=headers, more=more)
    lines, _ = head_and_body(transport.written)
    assert lines[0] == b"HTTP/1.1 502 Bad Gateway"
    assert transport.written.count(b"HTTP/1.1") == 1
    assert not transport.closed


async def test_requests_of_a_connection_have_their_own_headers_and_bodies(gateway, client):
    protocol, transport = client
    for number, kind in enumerate(("text/plain", "text/plain", "image/png")):
        protocol.data_received(request(b"body %d" % number, f"Content-Type: {kind}"))
        *_, request_id = await gateway.queued()
        assert gateway.redis.written.endswith(b"body %d\r\n" % number)
        gateway.reply(request_id, b"answer %d" % number)
        assert transport.written.endswith(b"answer %d" % number)
    sent = gateway.redis.written
    assert (sent.count(b"\r\ntext/plain\r\n"), sent.count(b"\r\nimage/png\r\n")) == (2, 1)
    assert gateway.asked == []


async def test_a_request_may_come_in_pieces(gateway, client):
    protocol, _ = client
    for byte in request(b"hello"):
        assert await gateway.queued() == []
        protocol.data_received(bytes([byte]))
    assert len(await gateway.queued()) == 1
    assert gateway.redis.written.endswith(b"\r\nhello\r\n")


async def test_a_streamed_answer_comes_in_chunks(gateway, client, hook):
    protocol, transport = client
    protocol.data_received(request())
    [request_id] = await gateway.queued()
    assert gateway.route.backlog.waiting == 1
    gateway.reply(request_id, b"one", 206, more=1, headers=b'{"x-a": "b"}')
    assert gateway.route.backlog.waiting == 0  # it runs
    lines, body = head_and_body(transport.written)
    assert lines[0].startswith(b"HTTP/1.1 206")
    assert lines[-2:] == [b"x-a: b", b"transfer-encoding: chunked"]
    assert body == b"3\r\none\r\n"
    gateway.reply(request_id, b"", 206, more=2)  # an empty chunk would be the end
    gateway.reply(request_id, b"the end")
    assert head_and_body(transport.written)[1] == b"3\r\none\r\n7\r\nthe end\r\n0\r\n\r\n"
    assert not transport.closed
    assert (gateway.counted(), hook.statuses, gateway.route.backlog.waiting) == ({206: 1}, [206], 0)
    protocol.data_received(request())
    assert len(await gateway.queued()) == 2


async def test_an_answer_that_is_cut_off_has_no_last_chunk(gateway, client, hook):
    protocol, transport = client
    protocol.data_received(request())
    [request_id] = await gateway.queued()
    gateway.reply(request_id, b"one", more=1)
    gateway.reply(request_id, b"three", more=3)
    assert transport.written.endswith(b"\r\n\r\n3\r\none\r\n")
    assert transport.closed
    assert hook.statuses == [503]


async def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection(gateway, client):
    protocol, transport = client
    protocol.data_received(request(version="1.0"))
    [request_id] = await gateway.queued()
    gateway.reply(request_id, b"one ", more=1)
    gateway.reply(request_id, b"", more=2)
    assert not transport.closed
    gateway.reply(request_id, b"two")
    lines, body = head_and_body(transport.written)
    assert b"connection: close" in lines
    assert not any(line.startswith((b"transfer-encoding", b"content-length")) for line in lines)
    assert body == b"one two"
    assert transport.closed


@pytest.mark.parametrize("asked", [request(version="1.0"), request(b"x", "Connection: close")])
async def test_the_connection_ends_where_the_client_wants_no_more_of_it(gateway, client, asked):
    protocol, transport = client
    protocol.data_received(asked)
    gateway.reply((await gateway.queued())[0], b"OK")
    lines, body = head_and_body(transport.written)
    assert lines[-2:] == [b"connection: close", b"content-length: 2"]
    assert body == b"OK"
    assert transport.closed


async def test_a_server_that_stops_ends_the_connection_after_the_answer(gateway, client):
    protocol, transport = client
    protocol.data_received(request())
    protocol.shutdown()
    assert not transport.closed
    gateway.reply((await gateway.queued())[0], b"OK")
    assert b"\r\nconnection: close\r\n" in transport.written
    assert transport.closed


async def test_a_pipelined_request_waits_for_the_answer_before_it(gateway, client):
    protocol, transport = client
    protocol.data_received(request(b"first") + request(b"second"))
    [request_id] = await gateway.queued()
    await asyncio.sleep(0.01)
    assert (transport.written, gateway.asked) == (b"", [])
    gateway.reply(request_id, b"fast")
    await until(lambda: transport.written.endswith(b"asgi"))
    assert transport.written.index(b"fast") < transport.written.index(b"asgi")
    assert gateway.asked == [("POST", "/predictions/m", b"second")]


async def test_a_client_that_goes_away_cancels_its_prediction(gateway, client, hook):
    protocol, transport = client
    protocol.data_received(request())
    [request_id] = await gateway.queued()
    protocol.connection_lost(None)
    assert (gateway.counted(), hook.statuses) == ({499: 1}, [499])
    gateway.reply(request_id)
    assert transport.written == b""
    assert (gateway.counted(), hook.statuses) == ({}, [499])


async def test_a_client_that_goes_away_in_its_body_has_asked_for_nothing(gateway, client, hook):
    protocol, _ = client
    protocol.data_received(request(b"hello")[:-1])
    protocol.connection_lost(None)
    assert await gateway.queued() == []
    assert hook.statuses == []


async def test_a_body_that_still_comes_at_the_end_of_a_stop_is_refused(gateway, client, hook):
    protocol, transport = client
    protocol.data_received(request(b"hello")[:-1])
    protocol.give_up()
    protocol.data_received(b"o")
    head, body = head_and_body(transport.written)
    assert head[0] == b"HTTP/1.1 503 Service Unavailable"
    assert b"connection: close" in head
    assert b"The server is stopping." in body
    protocol.connection_lost(None)
    assert await gateway.queued() == []


async def test_a_client_that_does_not_read_its_stream_is_cut_off(gateway, client, hook):
    protocol, transport = client
    protocol.data_received(request())
    [request_id] = await gateway.queued()
    transport.unread = MOST_UNREAD + 1
    gateway.reply(request_id, b"part", more=1)
    assert transport.closed
    assert not transport.written.endswith(b"0\r\n\r\n")
    assert hook.statuses == [503]
    assert gateway.broker.in_flight == 1  # until Redis has said where its entry is, which then is deleted
    gateway.broker._on_queued(request_id, b"1-1")
    assert gateway.broker.in_flight == 0


async def test_nothing_is_written_to_a_connection_that_ends(gateway, client):
    protocol, transport = client
    protocol.data_received(request())
    [request_id] = await gateway.queued()
    transport.close()
    gateway.reply(request_id, b"part", more=1)
    gateway.reply(request_id, b"end")
    assert transport.written == b""


async def test_a_full_queue_is_answered_and_the_connection_kept(gateway, client):
    protocol, transport = client
    gateway.route.backlog.waiting = 3
    protocol.data_received(request())
    lines, body = head_and_body(transport.written)
    assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
    assert b"retry-after: 1" in lines
    assert b"jobQueueSize allows 3" in body
    assert not transport.closed
    assert await gateway.queued() == []
    assert gateway.counted() == {503: 1}


async def test_a_failed_prediction_is_answered(gateway, client, hook):
    protocol, transport = client
    protocol.data_received(request())
    [request_id] = await gateway.queued()
    gateway.broker._on_queued(request_id, ValueError("OOM"))
    assert b"Redis refused the request: OOM" in transport.written
    protocol.data_received(request())
    gateway.broker.pending.fail_all(ConnectionError("gone"))
    assert transport.written.count(b"HTTP/1.1 500 ") == 1
    assert hook.statuses == [503, 500]


async def test_a_body_over_the_limit_takes_the_other_way_which_refuses_it_unread(hook):
    gateway = GatewayInProcess([hook], limit=10)
    gateway.connect()[0].data_received(request(b"x" * 11))
    await until(lambda: gateway.asked)
    assert await gateway.queued() == []


CHUNKED = request(b"1\r\nx\r\n0\r\n\r\n", "Transfer-Encoding: chunked").replace(
    b"Content-Length: 11\r\n", b""
)
UNUSUAL = {
    "a time-out": request(b"x", "X-Request-Timeout: 1"),
    "a chunked body": CHUNKED,
    "a large body": request(b"x" * 100_000),
    "Expect": request(b"x", "Expect: 100-continue"),
    "another route": request(path="/ping"),
    "a query": request(path="/predictions/m?a=b"),
    "OPTIONS": request(b"", method="OPTIONS"),
    "HEAD": request(b"", method="HEAD"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
async def test_unusual_requests_take_the_other_way(gateway, client, name):
    protocol, transport = client
    protocol.data_received(UNUSUAL[name])
    await until(lambda: gateway.asked and b"HTTP/1.1 200" in transport.written)
    assert await gateway.queued() == []
    _, path, body = gateway.asked[0]
    assert path.startswith(("/predictions/m", "/ping"))
    assert body in (b"", b"x", b"x" * 100_000)
    # and the next one may be usual
    protocol.data_received(request())
    assert len(await gateway.queued()) == 1


async def test_a_model_with_a_time_out_of_its_own_takes_the_other_way(gateway, client):
    gateway.route.is_plain = Route(
        replace(gateway.route.spec, client_timeout_ms=100), True, gateway.route.backlog, None
    ).is_plain
    client[0].data_received(request())
    await until(lambda: gateway.asked)


async def test_a_request_without_the_token_takes_the_other_way(hook):
    gateway = GatewayInProcess([hook], required=True)
    gateway.predictor._tokens.use({b"inference": b"right"})
    protocol, _ = gateway.connect()
    protocol.data_received(request(b"x", "Authorization: Bearer wrong"))
    await until(lambda: gateway.asked)
    protocol, _ = gateway.connect()
    protocol.data_received(request(b"x", "Authorization: Bearer right"))
    assert len(await gateway.queued()) == 1


async def test_bytes_that_are_not_http_are_answered_and_the_connection_ends(gateway, client):
    protocol, transport = client
    protocol.data_received(b"nonsense\r\n\r\n")
    lines, body = head_and_body(transport.written)
    assert lines[0] == b"HTTP/1.1 400 Bad Request"
    assert b"connection: close" in lines
    assert json.loads(body)["message"] == "Invalid HTTP message."
    assert transport.ended


async def test_a_connection_that_takes_one_of_the_last_descriptors_is_refused(gateway, monkeypatch):
    monkeypatch.setattr(connection_limit.resource, "getrlimit", lambda _: (connection_limit.SPARE, 0))
    _, transport = gateway.connect()
    assert transport.written.startswith(b"HTTP/1.1 503 ")
    assert b"Too many connections are open." in transport.written
    assert transport.closed


async def test_predictions_are_in_the_access_log(gateway, tmp_path):
    lines = AccessLog(tmp_path / "access_log.log", on_console=False)
    protocol, _ = gateway.connect(LoggedProtocol, lines=lines)
    for number in range(2):
        protocol.data_received(request())
        gateway.reply((await gateway.queued())[number], status=200 + number)
    protocol.data_received(request())
    protocol.connection_lost(None)
    lines.flush()
    written = (tmp_path / "access_log.log").read_text().splitlines()
    asked = '/- "POST /predictions/m HTTP/1.1"'
    assert [line.partition(" - ")[2].rpartition(" ")[0] for line in written] == [
        f"{asked} {status}" for status in (200, 201, 499)
    ]


async def test_its_benchmark_measures_requests_that_are_answered():
    [microseconds] = await measure(connections=3, requests=300, repeats=1)
    assert 0 < microseconds < 100_000


async def test_a_large_answer_is_sent_whole(gateway, client):
    protocol, transport = client
    protocol.data_received(request(b"hello"))
    [request_id] = await gateway.queued()
    gateway.reply(request_id, memoryview(b"x" * 200_000))
    head, body = head_and_body(transport.written)
    assert b"content-length: 200000" in head
    assert body == b"x" * 200_000
