"""The time of Redis for each command of one prediction, by its own counts."""

import statistics
from pathlib import Path

from benchmarks.fast_path import SPEC
from marq import keys
from marq.connections import clients
from marq.connections.blocking import Connection
from marq.host.embedded_redis import EmbeddedServer
from marq.queue.entries import EntryFields, EntryHead, Request
from marq.queue.ids import new_id
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply
from marq.registry.models import Registry

REPEATS, PREDICTIONS = 15, 300
HEADERS = b'{"host": "127.0.0.1:8080", "content-type": "application/json", "content-length": "8"}'
LANE, STREAM = keys.lane(SPEC.name, SPEC.version), keys.replies("benchmark")
COMMANDS = {
    "xadd": "XADD: request and reply", "xreadgroup": "XREADGROUP of four lanes", "xdel": "XDEL",
    "xack": "XACK", "xread": "XREAD", "xtrim": "XTRIM, every 64 replies",
}  # fmt: skip
TRIM_EVERY = 64


def measure(directory: Path) -> list[tuple[str, float]]:
    """(command, µs) for a prediction that is alone."""
    server = EmbeddedServer(directory / "redis")
    server.start()
    try:
        with clients.client(server.url) as client:
            Registry(client).register(SPEC)
        connection = Connection(server.url)
        connection.execute("XGROUP", "CREATE", STREAM, keys.GROUP, "$", "MKSTREAM")
        found = [_repeat(connection) for _ in range(REPEATS)]
        connection.close()
    finally:
        server.stop()
    return [(text, statistics.median(row[name] for row in found)) for name, text in COMMANDS.items()]


def _repeat(connection: Connection) -> dict[str, float]:
    connection.execute("CONFIG", "RESETSTAT")
    last = b"0"
    for number in range(PREDICTIONS):
        last = _predict(connection, last)
        if number % TRIM_EVERY == 0:
            connection.execute("XTRIM", STREAM, "MINID", last)
    return {name: us / PREDICTIONS for name, us in _used(connection).items()}


def _predict(connection: Connection, last: bytes) -> bytes:
    """The commands of a gateway and a replica for one prediction; returns the entry of its reply.

    `last` is the entry of the reply before.
    """
    request_id, head = new_id(), EntryHead(b"application/json", HEADERS)
    flat = EntryFields(b'{"x": 1}', head).flat()
    connection.execute("XADD", LANE, "*", "id", request_id, "replies", STREAM, *flat)
    lanes = keys.lanes(SPEC.name, SPEC.version)
    group = ("XREADGROUP", "GROUP", keys.GROUP, "replica", "COUNT", 1)
    [[_, [[entry, _]]]] = connection.execute(*group, "STREAMS", *lanes, *(">" for _ in lanes))
    request = Request(entry, LANE, id=request_id, replies=STREAM.encode())
    connection.pipeline(Publisher(SPEC, "cpu").commands([(request, Reply(request_id, 200, b"OK"))], 1))
    [[_, entries]] = connection.execute("XREAD", "STREAMS", STREAM, last)
    answered: bytes = entries[-1][0]
    return answered


def _used(connection: Connection) -> dict[str, float]:
    """µs of each of COMMANDS."""
    used = {}
    for line in connection.execute("INFO", "commandstats").decode().splitlines():
        name, _, values = line.removeprefix("cmdstat_").partition(":")
        if name in COMMANDS:
            used[name] = float(dict(value.split("=") for value in values.split(","))["usec"])
    return used
