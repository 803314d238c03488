"""A gateway that stops: beside others that listen on the same socket, and with open connections."""

import asyncio
import socket
import struct
from functools import partial

import pytest
import uvicorn

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
    server = Server(uvicorn.Config(no_app, lifespan="off", log_level="warning", backlog=BACKLOG))
    serving = asyncio.create_task(server.serve(sockets=[shared]))
    while not server.started:
        await asyncio.sleep(0.01)
    server.should_exit = True
    await serving
    assert may_wait(others) == before


REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\n"


class Stopping:
    """A server in this event loop that is asked to stop while one request is in flight."""

    def __init__(self):
        self.held, self.ends = asyncio.Event(), asyncio.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        protocol = partial(ManagementProtocol, limits=Limits())
        self.server = Server(
            uvicorn.Config(self.app, lifespan="off", log_level="warning", interface="asgi3", http=protocol)
        )
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
        while True:
            reader, writer = await self.connect()
            writer.write(REQUEST)
            if (await reader.readline()) == REFUSAL:
                return


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
