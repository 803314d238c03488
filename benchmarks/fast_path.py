"""`python -m benchmarks.fast_path`: the gateway's own CPU time for one prediction, without sockets and Redis.

A request's bytes go into the HTTP parser, its entry is packed for Redis, a reply comes back, and the
response's bytes go out. The loop has turns as in a gateway; stand-ins take the place of its transports.
"""

import argparse
import asyncio
import socket
import statistics
import sys
import time

import uvicorn
import uvloop
from uvicorn.server import ServerState

from gateway.auth.tokens import Tokens
from gateway.http.protocols import InferenceProtocol
from gateway.inference.predictor import Predictor
from gateway.metrics.counting import RequestMeter
from gateway.routing.route import Route
from gateway.routing.routes import Routes
from marq.connections.pipelined import OnTagged, PipelinedConnection
from marq.jobs.jobs import Jobs
from marq.queue.broker import Broker
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings

REQUEST = (
    b"POST /predictions/noop HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nContent-Type: application/json\r\n"
    b'Content-Length: 8\r\n\r\n{"x": 1}'
)
SPEC = ModelSpec("noop", "1.0", "noop.mar", "/noop.mar", "noop.py", min_workers=1, max_workers=1)
ID, ID_LENGTH = b"$36\r\n", 36  # how a request's id begins in its packed entry
UNUSED = "redis://127.0.0.1:1/0"
REPLY = b"$2\r\nid\r\n$36\r\n%s\r\n$6\r\nstatus\r\n$3\r\n200\r\n$4\r\nbody\r\n$2\r\nOK\r\n"
QUEUED = b"$15\r\n1700000000000-0\r\n"


class Transport(asyncio.Transport):
    """Keeps what was written last."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self._socket = socket.socket(socket.AF_UNIX)  # connected to nothing

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._socket if name == "socket" else default

    def is_closing(self) -> bool:
        return False

    def resume_reading(self) -> None:
        """Nothing was paused."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written = bytes(data)


class Gateway:
    """The parts of a gateway process that a prediction passes."""

    def __init__(self, connections: int) -> None:
        self.broker = broker = Broker(UNUSED, "benchmark")
        routes = Routes(Settings(redis_url=UNUSED))
        backlog = routes.backlogs.of(SPEC)
        routes.urls[b"/predictions/noop"] = Route(SPEC, False, backlog, "")
        self._commands, self._to_redis = _connected(broker._on_queued)
        self._replies, self._reading = _connected(broker._on_queued)
        broker._commands, self._stream = self._commands, broker.stream.encode()
        broker._reader.read_on(self._replies)
        predictor, meter = Predictor(routes, broker, Jobs(broker), Tokens(False), 1_000_000), RequestMeter()
        config, state = uvicorn.Config(_no_app, lifespan="off"), ServerState()
        self.clients: list[tuple[InferenceProtocol, Transport]] = []
        for _ in range(connections):
            protocol = InferenceProtocol(config, state, {}, None, predictor=predictor, meter=meter)
            protocol.connection_made(transport := Transport())
            self.clients.append((protocol, transport))

    async def answer(self) -> None:
        """One request of each connection at the same time, from its bytes to its answer's."""
        for protocol, _ in self.clients:
            protocol.data_received(REQUEST)
        await asyncio.sleep(0)  # the loop writes to Redis
        ids = [part[:ID_LENGTH] for part in self._to_redis.written.split(ID)[1:]]
        self._commands.data_received(QUEUED * len(ids))
        self._replies.data_received(self._reply(ids))
        await asyncio.sleep(0)  # the loop calls the reader of replies

    def forget_written(self) -> None:
        """Drops the commands that the loop has not sent yet."""
        self._commands._outgoing.clear()
        self._commands._waiters.clear()

    def _reply(self, ids: list[bytes]) -> bytes:
        """One entry with all replies, as XREAD answers."""
        replies = b"".join(
            b"$2\r\nid\r\n$36\r\n%s\r\n$6\r\nstatus\r\n$3\r\n200\r\n$4\r\nbody\r\n$2\r\nOK\r\n" % i
            for i in ids
        )
        head = b"*1\r\n*2\r\n$%d\r\n%s\r\n*1\r\n*2\r\n" % (len(self._stream), self._stream)
        trimmed = b":0\r\n" if b"XTRIM" in self._reading.written else b""  # sent in front of the XREAD
        return trimmed + head + QUEUED + b"*%d\r\n" % (6 * len(ids)) + replies

    def check(self) -> None:
        """Raises RuntimeError unless every connection has received its answer."""
        for _, transport in self.clients:
            if not (transport.written.startswith(b"HTTP/1.1 200 OK") and transport.written.endswith(b"OK")):
                raise RuntimeError(f"not the answer: {transport.written!r}")


def _connected(on_tagged: OnTagged) -> tuple[PipelinedConnection, Transport]:
    connection, transport = PipelinedConnection(lambda _: None, on_tagged), Transport()
    connection.connection_made(transport)
    return connection, transport


async def _no_app(_scope: object, _receive: object, _send: object) -> None:
    raise RuntimeError("a prediction left the fast path")


async def measure(connections: int, requests: int, repeats: int) -> list[float]:
    """Microseconds of CPU time for each request, once for each repeat."""
    gateway, results = Gateway(connections), []
    for _ in range(repeats):
        turns = requests // connections
        began = time.process_time()
        for _ in range(turns):
            await gateway.answer()
        results.append((time.process_time() - began) / (turns * connections) * 1e6)
        gateway.check()
    return results


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fast_path", description=__doc__)
    parser.add_argument("--connections", default="1,64", help="numbers of connections, separated by commas")
    parser.add_argument("--requests", type=int, default=5_000, help="for each repeat; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=40, help="default: %(default)s")
    options = parser.parse_args()
    for number in (int(text) for text in options.connections.split(",")):
        found = uvloop.run(measure(number, options.requests, options.repeats))
        median, least = statistics.median(found), min(found)
        print(f"{number} connections: {median:.1f} µs of CPU a request (median), {least:.1f} µs (minimum)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
