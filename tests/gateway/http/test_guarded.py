import asyncio

import pytest
from gateway_in_process import GatewayInProcess, request

from gateway.http.guarded import NOWHERE
from gateway.http.header_limits import MOST_PIPELINED, Limits
from marq.errors import HeadersTooLarge, UrlTooLong

LIMITS = Limits(url=100, headers=200, header_count=5, connections=2)
START = b"POST /predictions/m HTTP/1.1\r\nHost: x\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
async def gateway() -> GatewayInProcess:
    return GatewayInProcess()


@pytest.fixture
def client(gateway):
    return gateway.connect(limits=LIMITS)


def status(transport) -> int:
    return int(transport.written.split()[1])


@pytest.mark.parametrize(
    ("url", "headers", "error"),
    [
        (b"u" * 100, [(b"n" * 96, b"v" * 100)], None),
        (b"u" * 101, [], UrlTooLong),
        (b"u", [(b"n" * 96, b"v" * 101)], HeadersTooLarge),
        (b"u", [(b"n", b"v")] * 5, None),
        (b"u", [(b"n", b"v")] * 6, HeadersTooLarge),
    ],
)
def test_names_values_and_line_ends_count(url, headers, error):
    assert type(LIMITS.fault(url, headers)) is (error or type(None))


async def test_a_request_within_the_limits_is_queued_without_a_count(gateway, client):
    protocol, _ = client
    protocol.data_received(request())
    assert len(await gateway.queued()) == 1
    assert (protocol._received, protocol._incomplete) == (0, NOWHERE)


@pytest.mark.parametrize("size", [1, 7, 50])
async def test_headers_that_come_in_pieces_are_refused_at_the_limit(client, size):
    protocol, transport = client
    sent = 0
    while not transport.written:
        protocol.data_received((START + b"x: " + b"y" * 1000)[sent : sent + size])
        sent += size
    assert status(transport) == 431
    assert sent <= LIMITS.url + LIMITS.headers + 2 * size
    assert transport.ended


async def test_bytes_of_the_request_before_do_not_count(gateway, client):
    protocol, transport = client
    protocol.data_received(request(b"x" * 1000, path="/other") + START)
    for piece in (b"a: " + b"b" * 100 + b"\r\n", b"Content-Length: 1\r\n\r\n", b"x"):
        protocol.data_received(piece)
    assert transport.written == b""


async def test_what_comes_after_a_refusal_is_ignored(gateway, client):
    protocol, transport = client
    protocol.data_received(b"GET /" + b"x" * 200)
    assert status(transport) == 414
    answer = transport.written
    protocol.data_received(request())
    assert transport.written == answer
    assert await gateway.queued() == []


async def test_a_body_in_small_chunks_is_taken_and_its_trailers_are_dropped(gateway, client):
    protocol, transport = client
    for piece in (CHUNKED, *[b"1\r\nx\r\n"] * 1000, b"0\r\nX-Trailer: a\r\n\r\n"):
        protocol.data_received(piece)
    assert transport.written == b""
    assert all(name != b"x-trailer" for name, _ in protocol.headers)


@pytest.mark.parametrize("piece", [b"1;" + b"e" * 100 + b"\r\nx\r\n", b"0\r\n" + b"x: " + b"y" * 300])
async def test_extensions_and_trailers_beyond_the_limit_are_refused(client, piece):
    protocol, transport = client
    for each in (CHUNKED, *[piece[start : start + 20] for start in range(0, len(piece), 20)] * 5):
        protocol.data_received(each)
    assert status(transport) == 413
    assert protocol.cycle.disconnected


async def test_pipelining_without_end_ends_the_connection_after_the_answers(gateway, client):
    protocol, transport = client
    protocol.data_received(request() * (MOST_PIPELINED + 10))
    assert len(protocol.pipeline) == MOST_PIPELINED
    assert not protocol.cycle.keep_alive
    assert transport.written == b""


async def test_a_client_that_does_not_read_takes_the_slow_path(gateway, client):
    protocol, transport = client
    protocol.data_received(request())
    [first] = await gateway.queued()
    gateway.reply(first)
    protocol.pause_writing()
    protocol.data_received(request())
    assert len(await gateway.queued()) == 1
    assert not transport.written.endswith(b"asgi")
    protocol.resume_writing()
    async with asyncio.timeout(30):
        while not transport.written.endswith(b"asgi"):
            await asyncio.sleep(0)


async def test_a_connection_above_the_limit_is_refused(gateway):
    _, transport = gateway.connect(limits=Limits(connections=0))
    assert status(transport) == 503
    assert transport.closed
