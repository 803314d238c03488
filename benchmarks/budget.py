"""`python -m benchmarks.budget`: the CPU time of each step of one prediction, in µs.

Each step is the function that a gateway, Redis or a replica runs, called alone many times; the steps of Redis
are its own counts (`INFO commandstats`). With a batch of 32 rows the figures are for each row. The last rows
are the CPU time of whole processes under load: what they take more than their steps are the event loop,
system calls, wake-ups, and in Redis the append-only file.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import hiredis
import httptools
import uvloop

from benchmarks import load, redis_steps, workloads
from benchmarks.fast_path import REQUEST, SPEC, Gateway
from benchmarks.processes import Roles
from benchmarks.servers import MARQ_VENV, Marq
from gateway.http.access_log import AccessLog
from gateway.http.exchange import Exchange
from gateway.metrics.counting import RequestMeter
from marq import keys
from marq.connections.urls import pack
from marq.queue.entries import EntryFields, EntryHead, decode
from marq.queue.ids import new_id
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply, decode_replies
from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from workers.handler import replies, rows
from workers.handler.call import HandlerCall
from workers.handler.measurements import Collector
from workers.scoreboard import Scoreboard

LANE = keys.lane("noop", "1.0")
ENTRY = b"1700000000000-0"
BODY, STREAM = b'{"x": 1}', b"marq:replies:host-1-0a1b2c3d"
FIELDS = (
    b"id", b"%s", b"replies", STREAM, b"type", b"application/json", b"headers", redis_steps.HEADERS,
    b"body", BODY,
)  # fmt: skip
WARMUP_S = 3.0


@dataclass(frozen=True)
class Step:
    """One row of the table."""

    process: str
    name: str
    us: float


def cost(step: Callable[[], object], rows_: int = 1, repeats: int = 15, seconds: float = 0.02) -> float:
    """CPU µs of one call, for each row: the median of the faster half of several loops."""
    calls, spent = 1, 0.0
    while spent < seconds / 4:
        calls *= 2
        spent = _loop(step, calls)
    calls = max(1, int(calls * seconds / spent))
    found = sorted(_loop(step, calls) / calls for _ in range(repeats))
    return 1e6 * statistics.median(found[: (repeats + 1) // 2]) / rows_


def _loop(step: Callable[[], object], calls: int) -> float:
    began = time.process_time()
    for _ in range(calls):
        step()
    return time.process_time() - began


async def gateway_steps(directory: Path) -> list[Step]:
    """From the bytes of a request to those of its answer."""
    gateway = Gateway(1)
    [(protocol, _)] = gateway.clients
    predictor, meter, log = protocol.predictor, RequestMeter(), AccessLog(directory / "access.log")
    await gateway.answer()  # the protocol has learned the usual headers
    headers, url, head = protocol.headers, b"/predictions/noop", EntryHead(b"application/json", FIELDS[7])
    route, fields, waiting = predictor.hot_route(url, headers), EntryFields(BODY, head), _Sink()
    assert route is not None
    broker = gateway.broker
    entry = _entry_bytes(1)
    reply_fields = [b"id", new_id(), b"status", b"200", b"body", b"OK"]

    def parse() -> None:
        httptools.HttpRequestParser(_Nothing()).feed_data(REQUEST)

    def queue() -> None:
        request_id = new_id()
        broker.queue(route.lane, request_id, fields, waiting)
        broker.pending.forget(request_id)
        gateway.forget_written()

    def resolve() -> None:
        broker.pending.add(reply_fields[1], route.lane, waiting)
        for reply in decode_replies(reply_fields):
            broker.pending.reply(reply)

    def respond() -> None:
        protocol.respond(Exchange(protocol, route, b"POST"), 200, b"OK", b"")

    def write_log() -> None:
        for _ in range(100):
            log.add(' - /127.0.0.1:1 "POST /predictions/noop HTTP/1.1" ', 200, 0.001)
        log.flush()

    parts = {
        "parse the request (httptools)": cost(
            lambda: httptools.HttpRequestParser(_Nothing()).feed_data(REQUEST)
        ),
        "find the route": cost(lambda: predictor.hot_route(url, headers)),
        "make the id": cost(new_id),
        "pack the entry, and note what waits": cost(queue) - cost(new_id),
        "read the reply (hiredis)": cost(lambda: _parse(entry)),
        "decode and resolve the reply": cost(resolve),
        "respond: head, body, ready for the next request": cost(respond),
        "log (100 lines a write)": cost(write_log, 100),
        "count": cost(lambda: meter.answered(route, 200, 0.001)),
    }
    return [Step("gateway", name, us) for name, us in parts.items()]


def replica_steps(batch: int, directory: Path) -> list[Step]:
    """From the bytes of a read to those that are sent; for each row of a batch."""
    reply = _entry_bytes(batch)
    [[_, entries]] = _parse(reply)
    requests = [decode(LANE, entry, fields) for entry, fields in entries]
    metrics = MetricsCacheYamlImpl()
    context = Context("noop", str(directory), {}, batch, None, "1", metrics=metrics)
    call = HandlerCall(lambda data, _: ["OK"] * len(data), context, True, 10**6)
    processors = [RequestProcessor(rows.build(request)[1]) for request in requests]
    answers = list(zip(requests, call.run(requests), strict=True))
    publisher, board = Publisher(SPEC, "cpu"), Scoreboard.create(directory / f"board{batch}", batch)
    commands = publisher.commands(answers, 1)
    collector, now = Collector(SPEC), time.time()

    def note() -> None:
        board.begin(requests)
        board.end(batch)

    def count() -> None:
        for _ in range(1000):
            collector.batch(requests, int(now * 1000), 0.0, now)
        collector.flush()

    row = cost(lambda: [rows.build(request) for request in requests], batch)
    encode = cost(lambda: replies.build(requests, ["OK"] * batch, processors, 10**6), batch)
    parts = {
        "read (hiredis)": cost(lambda: _parse(reply), batch),
        "decode the entry": cost(lambda: [decode(LANE, entry, fields) for entry, fields in entries], batch),
        "note what runs": cost(note, batch),
        "make the row": row,
        "call the handler": cost(lambda: call.run(requests), batch) - row - encode,
        "encode the answer": encode,
        "publish and acknowledge: make the commands": cost(lambda: publisher.commands(answers, 1), batch),
        "pack the commands": cost(lambda: b"".join(map(pack, commands)), batch),
        "count (1,000 batches a flush)": cost(count, 1000 * batch),
    }
    return [Step(f"replica, {batch} in a batch", name, us) for name, us in parts.items()]


def _entry_bytes(count: int) -> bytes:
    """The reply of Redis to a read of `count` request entries."""
    entries = b""
    for _ in range(count):
        fields = [new_id() if field == b"%s" else field for field in FIELDS]
        packed = b"".join(b"$%d\r\n%b\r\n" % (len(field), field) for field in fields)
        entries += b"*2\r\n$%d\r\n%b\r\n*%d\r\n%b" % (len(ENTRY), ENTRY, len(fields), packed)
    lane = LANE.encode()
    return b"*1\r\n*2\r\n$%d\r\n%b\r\n*%d\r\n%b" % (len(lane), lane, count, entries)


def _parse(data: bytes) -> list[list[object]]:
    reader = hiredis.Reader()
    reader.feed(data)
    parsed: list[list[object]] = reader.gets()  # type: ignore[assignment]
    return parsed


class _Nothing:
    """For a parser whose callbacks are of no interest."""


class _Sink:
    """Takes the reply to a request."""

    lane = entry = b""

    def done(self) -> bool:
        return False

    def set_part(self, part: Reply, /) -> None:
        """No part comes."""

    def set_result(self, reply: Reply, /) -> None:
        """It is not looked at."""

    def set_exception(self, error: Exception, /) -> None:
        raise error


def process_steps(directory: Path, seconds: float) -> list[Step]:
    """The CPU time of whole processes for each request. Raises ServerFailed or LoadFailed."""
    archives, (_, generate), steps = workloads.pack(directory), load.generator(), []
    for workload in (workloads.Workload("noop", 1), workloads.Workload("noop", 32)):
        with Marq(MARQ_VENV, archives, workload) as server:
            generate(server.target, 8, WARMUP_S)
            for connections in (1, 64):
                roles = Roles(server.tree)
                answered = generate(server.target, connections, seconds).good
                used, about = roles.read(), f"{workload.name}, {connections} connections"
                steps += [
                    Step(about, role, 1e6 * used[role] / answered) for role in ("gateway", "redis", "replica")
                ]
    return steps


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.budget", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load; default: %(default)s")
    seconds = parser.parse_args().seconds
    with TemporaryDirectory(prefix="benchmark-") as name:
        directory = Path(name)
        steps = uvloop.run(gateway_steps(directory))
        steps += [Step("Redis", command, us) for command, us in redis_steps.measure(directory)]
        steps += [step for batch in (1, 32) for step in replica_steps(batch, directory)]
        steps += process_steps(directory, seconds)
    print("| process | step | µs |\n| --- | --- | --- |")
    for process in dict.fromkeys(step.process for step in steps):
        of_process = [step for step in steps if step.process == process]
        for step in of_process:
            print(f"| {process} | {step.name} | {step.us:.2f} |")
        print(f"| {process} | in all | {sum(step.us for step in of_process):.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
