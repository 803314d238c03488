"""A gateway that stops: beside others that listen on the same socket, and with open connections."""

import asyncio
import socket
import struct
from functools import partial

import pytest
import uvicorn

from gateway.http.closing import Leaving
from gateway.http.header_limits import Limits
from gateway.http.protocols import ManagementProtocol
from gateway.http.server import Server
from marq.host.sockets import BACKLOG

MAXIMUM = 28  # of Linux's tcp_info of a listening socket: the offset of how many connections may wait


def may_wait(listening: socket.socket) -> int:
    info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, MAXIMUM + 4)
    return struct.unpack_from("I", info, MAXIMUM)[0]


async def no_app(scope, receive, send):
    raise AssertionError("nothing is sent")


async def test_its_stop_leaves_as_many_connections_waiting_for_the_others_as_before():
    shared = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    before, others = may_wait(shared), shared.dup()
    leaving = Leaving()
    server = Server(uvicorn.Config(no_app, lifespan="off", log_level="warning", backlog=BACKLOG), leaving)
    serving = asyncio.create_task(server.serve(sockets=[shared]))
    while not server.started:
        await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
    assert may_wait(others) == before
    await leaving.end()
    assert may_wait(others) == before


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\n"


class Stopping:
    """A server in this event loop that is asked to stop while one request is in flight."""

    def __init__(self):
        self.held, self.ends = asyncio.Event(), asyncio.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        limits = Limits()
        self.leaving, self.protocol = limits.leaving, partial(ManagementProtocol, limits=limits)
        self.config = uvicorn.Config(
            self.app, lifespan="off", log_level="warning", interface="asgi3", http=self.protocol
        )
        self.server = Server(self.config, self.leaving)
        self.serving = asyncio.create_task(self.server.serve(sockets=[self.listening.dup()]))

    async def app(self, scope, receive, send):
        if scope["path"] == "/held":
            self.held.set()
            await self.ends.wait()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    @property
    def connections(self):
        return self.server.server_state.connections

    async def connect(self):
        while not self.server.started:
            await asyncio.sleep(0.01)
        return await asyncio.open_connection(*self.listening.getsockname())

    async def begin(self):
        """Returns once the gateway refuses new connections."""
        self.server.should_exit = True
        while any(each.is_serving() for each in self.server.servers):  # asyncio forgets who comes meanwhile
            await asyncio.sleep(0.01)


@pytest.fixture
async def stopping():
    stopping = Stopping()
    reader, writer = await stopping.connect()
    writer.write(b"GET /held HTTP/1.1\r\nHost: x\r\n\r\n")
    await stopping.held.wait()
    yield stopping
    stopping.server.should_exit = True
    stopping.ends.set()
    assert (await reader.read()).endswith(b"ok")
    await stopping.serving
    stopping.listening.close()
    await stopping.leaving.end()


async def test_a_connection_without_a_request_so_far_gets_the_refusal_when_it_sends_one(stopping):
    reader, writer = await stopping.connect()
    await stopping.begin()
    writer.write(REQUEST)
    answer = await reader.read()
    assert answer.startswith(REFUSAL)
    assert b"connection: close" in answer


async def test_an_idle_connection_is_closed(stopping):
    reader, writer = await stopping.connect()
    writer.write(REQUEST)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    await stopping.begin()
    assert await reader.read() == b""


async def test_a_request_that_is_not_read_yet_gets_the_refusal_rather_than_a_reset(stopping):
    with socket.create_connection(stopping.listening.getsockname()) as client:
        client.sendall(REQUEST)
        client.settimeout(60)
        answer = b""
        while not answer.endswith(b"ok"):
            answer += await asyncio.to_thread(client.recv, 65536)
        [protocol] = [each for each in stopping.connections if each.cycle.response_complete]
        client.sendall(REQUEST)
        protocol.shutdown()
        answer = await asyncio.to_thread(client.recv, 65536)
    assert answer.startswith(REFUSAL)


async def test_a_request_whose_headers_are_not_complete_is_refused_at_once(stopping):
    reader, writer = await stopping.connect()
    writer.write(REQUEST)
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    writer.write(REQUEST[:-4])
    await stopping.begin()
    assert (await reader.read()).startswith(REFUSAL)


async def test_a_client_that_still_sends_the_body_of_an_answered_request_gets_no_second_answer(stopping):
    reader, writer = await stopping.connect()
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf")
    assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
    await stopping.begin()
    writer.write(b"other")
    assert await reader.read() == b""


async def test_a_connection_that_is_made_after_the_beginning_of_the_stop_gets_the_refusal(stopping):
    await stopping.begin()
    ours, its = socket.socketpair()
    loop, state = asyncio.get_running_loop(), stopping.server.server_state
    made = partial(stopping.protocol, stopping.config, state, {}, loop)
    await loop.connect_accepted_socket(made, its)
    reader, writer = await asyncio.open_connection(sock=ours)
    writer.write(REQUEST)
    assert (await reader.read()).startswith(REFUSAL)
    writer.close()


async def test_new_connections_are_refused_until_the_gateway_ends(stopping):
    await stopping.begin()
    stopping.ends.set()
    await stopping.serving
    reader, writer = await stopping.connect()
    writer.write(REQUEST)
    assert (await reader.read()).startswith(REFUSAL)


async def test_a_connection_that_waits_to_be_accepted_at_the_end_gets_the_refusal(stopping):
    await stopping.begin()
    stopping.ends.set()
    await stopping.serving
    address = stopping.listening.getsockname()
    stopping.listening.close()
    end = asyncio.create_task(stopping.leaving.end())
    await asyncio.sleep(0)  # its servers are closed
    with socket.create_connection(address) as client:
        client.sendall(REQUEST)
        client.settimeout(60)
        assert (await asyncio.to_thread(client.recv, 65536)).startswith(REFUSAL)
    await end


def accepted(listening: socket.socket) -> bool:
    """Whether a connection waits there, which is closed."""
    listening.setblocking(False)
    try:
        listening.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def test_new_connections_are_left_to_other_gateways_unless_these_stop_too():
    shared = socket.create_server(("127.0.0.1", 0))
    leaving = Leaving(refuses=False)
    server = Server(uvicorn.Config(no_app, lifespan="off", log_level="warning"), leaving)
    serving = asyncio.create_task(server.serve(sockets=[shared.dup()]))
    while not server.started:
        await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
    # Given a gateway that stops alone, another one gets the next connection
    with socket.create_connection(shared.getsockname()):
        assert accepted(shared)
    # When the whole server stops
    leaving.refuse_new()
    # Then the gateway refuses them, as long as it runs
    reader, writer = await asyncio.open_connection(*shared.getsockname())
    writer.write(REQUEST)
    assert (await reader.read()).startswith(REFUSAL)
    writer.close()
    address = shared.getsockname()
    shared.close()
    await leaving.end()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


async def test_what_waits_at_the_end_of_one_gateway_is_left_to_the_others():
    shared = socket.create_server(("127.0.0.1", 0))
    leaving = Leaving(refuses=False)
    await leaving.begin([shared], uvicorn.Config(no_app))
    with socket.create_connection(shared.getsockname()):
        await leaving.end()
        assert accepted(shared)
    shared.close()


async def test_requests_without_an_answer_at_the_limit_are_refused():
    stopping = Stopping()
    stopping.server.limit_s = 0
    connections = []
    for request in (b"GET /held HTTP/1.1\r\n\r\n", b"POST /held HTTP/1.1\r\nContent-Length: 9\r\n\r\nhalf"):
        reader, writer = await stopping.connect()
        writer.write(request)
        await stopping.held.wait()
        stopping.held.clear()
        connections.append((reader, writer))
    stopping.server.should_exit = True
    for reader, _ in connections:
        assert (await reader.read()).startswith(REFUSAL)
    stopping.ends.set()
    await stopping.serving
    await stopping.leaving.end()
