"""A gateway that stops beside others that listen on the same socket."""

import asyncio
import socket
import struct

import uvicorn

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
