"""Cases: requests, entries and clients that do harm, and good ones between them."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any, cast

from http_client import Broken, Client, many_open_files
from ledger import Ledger
from load import Load
from scale import Scale
from stage import MAX_REQUEST_SIZE, Stage, memory

from marq import keys

BODY_BYTES = 50 << 20
SPARE_FILES = 400  # for the usual clients


async def poison(stage: Stage, scale: Scale) -> Ledger:
    """One request in each hundred ends its replica, at batch size 32: exactly these fail."""
    await stage.until_ready("fragile")
    async with Load(
        stage, scale.rate, "fragile", poison_every=100, jobs=False, most=scale.poison_requests
    ) as load:
        pass
    if load.ledger.designed != scale.poison_requests // 100:
        load.ledger.complain(
            f"{load.ledger.designed} of {scale.poison_requests // 100} poison requests failed"
        )
    return load.ledger


async def hostile_entries(stage: Stage, scale: Scale) -> Ledger:
    """Entries that are no requests, or mean harm, written to the lane between good ones."""
    replicas = await stage.until_ready("square")
    lane, letters = keys.lane("square", "1.0"), stage.dead_letters("square")
    with stage.redis() as client:
        async with Load(stage, scale.rate, letters=True) as load:
            for number, fields in enumerate(islice(cycle(_hostile()), scale.hostile_entries)):
                client.execute_command("XADD", lane, "*", *fields)
                if number % 10 == 0:
                    await asyncio.sleep(0.05)
        if client.ttl(keys.REGISTRY) != -1:
            load.ledger.complain("an entry has made the registry expire")
    if sorted(await stage.until_ready("square")) != sorted(replicas):
        load.ledger.complain("replicas were lost")
    grown = stage.dead_letters("square") - letters
    load.ledger.notes.insert(0, f"{scale.hostile_entries} hostile entries, {grown} dead letters")
    return load.ledger


def _hostile() -> Iterator[list[Any]]:
    """Fields of entries, none of which may harm others."""
    good = ["body", "anything", "type", "text/plain"]
    yield ["data", "no body"]
    yield ["", ""]
    yield ["body", ""]
    yield ["body", b"\xff\xfe", "type", "text/plain"]
    yield ["body", "not a number", "type", "text/plain"]
    yield ["body", "[" * 100_000, "type", "application/json"]
    yield ["body", '{"a": 1e999999}', "type", "application/json"]
    yield ["body", "x", "type", "multipart/form-data; boundary="]
    yield ["body", "x" * 1_000_000]
    yield [*good, "id", b"\xff\xfe"]
    yield [*good, "id", "two words\r\nand a line", "job", "1"]
    yield [*good, "id", "../../etc/passwd", "job", "1"]
    yield [*good, "deadline", "soon"]
    yield [*good, "deadline", "-1"]
    yield [*good, "deadline", "9" * 5000]
    yield [*good, "attempts", "9" * 5000]
    yield [*good, "attempts", "9" * 5000, "job", "1"]
    yield [*good, "attempts", "many"]
    yield [*good, "headers", "nonsense"]
    yield [*good, "headers", '["a list"]']
    yield [*good, "headers", "[" * 100_000]
    yield [*good, "params", "%zz=&=&&&" * 1000]
    yield [*good, "path", b"\xff"]
    yield [*good, "replies", keys.REGISTRY]
    yield [*good, "replies", "nobody-reads-this"]
    yield [*good, "reply", keys.REGISTRY]
    yield [*good, "job", "1", "id", "x} {y"]
    yield [word for number in range(2000) for word in (f"field {number}", "x")]
    yield [*good, *(word for number in range(5000) for word in (f"field {number}", "x"))]
    yield [*good, "body", "8", "body", "9"]
    yield [*good, "trace", b"\x00" * 1000, "type", b"\xff"]


async def large_bodies(stage: Stage, scale: Scale) -> Ledger:
    """Bodies of 50 MB are answered; those above `max_request_size` refused without being read."""
    await stage.until_ready("digest")
    ledger, client = Ledger(), Client(stage.server.inference)
    room = asyncio.Semaphore(3)

    async def send(number: int) -> None:
        body = os.urandom(64) * (BODY_BYTES // 64)
        wanted = f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        async with room:
            with contextlib.suppress(Broken, TimeoutError):
                answer = await client.request("POST", "/predictions/digest", body, {}, timeout_s=120)
                if answer.is_refusal:
                    ledger.refuse(answer.told)
                    return
                ledger.accepted += 1
                if answer.body.decode() == wanted:
                    ledger.right += 1
                    return
                ledger.lose(f"body {number}: {answer.told}")
                return
        ledger.accepted += 1
        ledger.lose(f"body {number}: no answer")

    await asyncio.gather(*(send(number) for number in range(scale.large_bodies)))
    ledger.duplicated += client.strays
    client.close()
    ledger.check_refusals()
    if (status := await _announce(stage, MAX_REQUEST_SIZE + 1)) != 413:
        ledger.complain(f"a body that is too large was answered with {status}")
    if left := await stage.until_empty("digest"):
        ledger.complain(f"left in the lanes: {left}")
    return ledger


async def _announce(stage: Stage, size: int) -> int:
    """The status for a body of this size, of which only a little is sent."""
    host, port = stage.server.inference.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /predictions/digest HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    writer.write(bytes(100_000))
    async with asyncio.timeout(10):
        status = int((await reader.readline()).split()[1])
    writer.close()
    return status


class _Silent(asyncio.Protocol):
    """A connection that asks for nothing: alive until something comes, or it ends."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.is_alive = True

    @classmethod
    async def open(cls, stage: Stage) -> "_Silent":
        host, port = stage.server.inference.removeprefix("http://").split(":")
        return (await asyncio.get_running_loop().create_connection(cls, host, int(port)))[1]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.is_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_alive = False


async def idle_connections(stage: Stage, scale: Scale) -> Ledger:
    """Thousands of connections that say nothing, and the usual clients beside them."""
    before = memory(stage.gateways)
    with many_open_files() as room:
        wanted = min(scale.idle_connections, room - SPARE_FILES)
        opened: list[_Silent] = []
        try:
            for start in range(0, wanted, 200):
                some = (_Silent.open(stage) for _ in range(start, min(wanted, start + 200)))
                opened += await asyncio.gather(*some)
            async with Load(stage, scale.rate) as load:
                await asyncio.sleep(scale.slow_s)
            alive = sum(each.is_alive for each in opened)
            grown = memory(stage.gateways) - before
        finally:
            for each in opened:
                each.transport.abort()
    load.ledger.notes.append(f"{alive:,} idle connections, gateways +{grown / 2**20:.0f} MiB")
    if alive < wanted:
        load.ledger.complain(f"{wanted - alive:,} of {wanted:,} idle connections were ended")
    if wanted < scale.idle_connections:
        load.ledger.notes.append(f"{scale.idle_connections:,} are more than RLIMIT_NOFILE allows")
    return load.ledger


async def slow_clients(stage: Stage, scale: Scale) -> Ledger:
    """Clients that send a byte now and then, before and after their headers end."""
    head = b"POST /predictions/square HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n"
    stopped = asyncio.Event()

    async def dribble(number: int) -> bool:
        connection = await _Silent.open(stage)
        connection.transport.write(head + (b"\r\n" if number % 2 else b"X: "))
        while not stopped.is_set() and connection.is_alive:
            connection.transport.write(b"1")
            await asyncio.sleep(0.2)
        is_alive = connection.is_alive
        connection.transport.abort()
        return is_alive

    slow = [asyncio.create_task(dribble(number)) for number in range(scale.slow_clients)]
    async with Load(stage, scale.rate) as load:
        try:
            await asyncio.sleep(scale.slow_s)
        finally:
            stopped.set()
            alive = await asyncio.gather(*slow)
    load.ledger.notes.insert(0, f"{sum(alive)} of {scale.slow_clients} slow clients still connected")
    return load.ledger
