"""20,000 hostile requests, entries, replies, answers, config lines and archives, always the same ones.

Nothing hangs, nothing ends, memory stays bounded, no 500 lacks a cause in the log, and every model answers.
"""

import asyncio
import contextlib
import json
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from support import RunningServer, wait_for

from archive import reader
from archive.errors import ArchiveError
from archive.model_config import ModelConfig
from marq import keys
from marq.settings.loading import resolve
from marq.settings.properties import SettingsError

pytestmark = pytest.mark.slow

SEED = 20_261_127
HANDLER = """
import json, random


def handle(data, context):
    if data is None:
        return None
    answers = []
    for index, row in enumerate(data):
        try:
            order = json.loads(bytes(row["body"]))
            status, headers, answer = order["status"], order["headers"], order["answer"]
        except Exception:
            answers.append("echo")
            continue
        context.set_response_status(status, "phrase", index)
        for name, value in headers:
            context.set_response_header(index, name, value)
        answers.append(answer)
    return answers
"""
MODELS = ("plain", "batch")
TOKENS = (
    "\r\n", "\n", "\0", ":", " ", ";", "\xff", "0", "-1", "f" * 20, "Content-Length: 5\r\n", "%", "%00",
    "../", "{}",
    "\u0142", "a" * 3000, "chunked", "é", "\t", "=", "&", '"', "[" * 500, "9" * 30, "1e999", "null", "/",
    "//", "?",
)  # fmt: skip
BODIES = (
    b"", b"x", b"{", b"[" * 500, b'{"instances": [1, 2]}', b'{"inputs": []}', b"a=b&c=%zz", b"\xff\xfe",
    b"9" * 5000, b"--B\r\nContent-Disposition: form-data; name*=a; name*0=b\r\n\r\nx\r\n--B--\r\n", b"--B",
    b"null", b"y" * 70_000,
)  # fmt: skip
TYPES = (
    "application/json", "multipart/form-data; boundary=B", "multipart/form-data", "text/plain; charset=nope",
    "", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "\xff", "a" * 300,
)  # fmt: skip
PATHS = {
    "inference": (
        "/predictions/plain", "/predictions/batch/1.0", "/predictions/none", "/explanations/plain",
        "/v1/models/plain:predict", "/v2/models/plain/infer", "/v2/models/plain", "/v2/health/ready", "/ping",
        "/jobs/plain", "/jobs/plain:x", "/invocations",
        "/models/plain/invoke", "/predictions/plain/1.0/a/../b", "/api-description", "/",
    ),
    "management": (
        "/models", "/models/plain", "/models/plain/all", "/models/plain/9", "/models/none/set-default",
        "/token?type=inference", "/models?url=none.mar", "/models?url=../../etc/passwd",
        "/models?limit=x&next_page_token=y", "/",
    ),
    "metrics": ("/metrics", "/metrics?name[]=x", "/"),
}  # fmt: skip
HEADERS = (
    "X-Request-Timeout",
    "Idempotency-Key",
    "Accept",
    "Expect",
    "Authorization",
    "Prefer",
    "X-Marq-Priority",
    "Range",
    "TE",
)


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., RunningServer], make_archive: Callable[..., Path], tmp_path_factory: Any
) -> Iterator[RunningServer]:
    store = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "responseTimeout": 20}
    make_archive(store, "plain", HANDLER, config)
    make_archive(store, "batch", HANDLER, config | {"batchSize": 8, "maxBatchDelay": 5})
    running = start_server(
        store, ["plain.mar", "batch.mar"], ["--disable-token-auth", "--enable-model-api"],
        gateway_workers=2, max_request_size=100_000, job_queue_size=100_000,
    )  # fmt: skip
    for model in MODELS:
        running.wait_until_ready(model)
    before = processes(running)
    yield running
    assert processes(running) == before, f"a process has ended:\n{running.log.read_text()[-5000:]}"
    for process in psutil.Process(running.process.pid).children(recursive=True):
        assert process.memory_info().rss < 600 << 20, process.cmdline()


def processes(server: RunningServer) -> set[tuple[int, float]]:
    return {
        (each.pid, each.create_time()) for each in psutil.Process(server.process.pid).children(recursive=True)
    }


@pytest.fixture(autouse=True)
def _goes_on(server: RunningServer) -> Iterator[None]:
    yield
    for model in MODELS:
        assert server.predict(model, b"hello").text == "echo"
        assert server.result(server.submit(model, b"hello")).text == "echo"


def text(chance: random.Random, most: int = 4) -> str:
    return "".join(chance.choice((*TOKENS, *string.ascii_letters)) for _ in range(chance.randint(0, most)))


def request(chance: random.Random, plane: str) -> bytes:
    method = chance.choice(
        ("GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "get", text(chance, 1))
    )
    if plane == "management" and method in ("DELETE", "PUT"):
        method = "GET"  # the models have to stay as they are
    path = chance.choice(PATHS[plane]) + chance.choice(("", "", text(chance)))
    body = chance.choice(BODIES)
    lines = [
        f"{method} {path} HTTP/1.{chance.choice('0111')}",
        "Host: x",
        f"Content-Type: {chance.choice(TYPES)}",
    ]
    lines += [f"{chance.choice(HEADERS)}: {text(chance)}" for _ in range(chance.randint(0, 2))]
    if chance.random() < 0.8:
        lines.append(f"Content-Length: {len(body)}")
    data = bytearray("\r\n".join((*lines, "", "")).encode("utf-8", "replace") + body)
    for _ in range(chance.choice((0, 0, 1, 3))):
        start = chance.randrange(len(data))
        data[start : start + chance.choice((0, 1, 7))] = chance.choice(TOKENS).encode()
    return bytes(data)


async def exchange(address: str, data: bytes, patience_s: float | None = None) -> bytes:
    """All that the server sends for these bytes. With patience, the client ends the connection after it."""
    host, port = address.removeprefix("http://").split(":")
    stream, sink = await asyncio.open_connection(host, int(port))
    received = b""
    with contextlib.suppress(ConnectionError):
        sink.write(data)
        with contextlib.suppress(TimeoutError):
            received = await asyncio.wait_for(stream.read(65536), patience_s)
        if patience_s is not None:
            sink.write_eof()
        while piece := await stream.read(65536):
            received += piece
    sink.close()
    return received


async def test_no_request_hangs_or_fails_without_a_cause(server: RunningServer) -> None:
    chance, statuses = random.Random(SEED), Counter[str]()
    addresses = {"inference": server.inference, "management": server.management, "metrics": server.metrics}
    waiting = asyncio.Semaphore(32)

    async def send(address: str, data: bytes) -> None:
        async with waiting, asyncio.timeout(60):
            received = await exchange(address, data, patience_s=0.05)
        for status, request_id in re.findall(
            rb"HTTP/1\.[01] (\d{3}) [^\r\n]*\r\n(?:x-request-id: (\S+))?", received
        ):
            statuses[status.decode()] += 1
            if status == b"500":
                assert request_id and request_id.decode() in server.log.read_text() + server.model_log, data

    for _ in range(8):
        planes = chance.choices(tuple(PATHS), (8, 3, 1), k=1000)
        await asyncio.gather(*(send(addresses[plane], request(chance, plane)) for plane in planes))
    assert statuses["200"] > 500 and statuses["400"] > 500, statuses


def test_no_answer_of_a_handler_harms_another_request(server: RunningServer) -> None:
    chance = random.Random(SEED + 1)

    def order() -> bytes:
        status = chance.choice((200, 204, 304, 404, 500, 599, 600, 999, 100, 0, -1, 10**9))
        names = ("x", "content-length", "transfer-encoding", "connection", "Content-Type", text(chance))
        headers = [(chance.choice(names), text(chance)) for _ in range(chance.randint(0, 3))]
        answer = chance.choice(("text", {"a": 1}, [1], None, 3, 1e999, {"deep": [[[[]]]]}, text(chance)))
        return json.dumps({"status": status, "headers": headers, "answer": answer}).encode()

    async def ask() -> None:
        async with asyncio.timeout(60):
            body = order()
            head = f"POST /predictions/{chance.choice(MODELS)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            data = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
            received = await exchange(server.inference, data)
            assert re.match(rb"HTTP/1\.1 \d{3} ", received), (body, received)

    async def run() -> None:
        for _ in range(250):
            await asyncio.gather(*(ask() for _ in range(16)))

    asyncio.run(run())


def test_no_entry_of_a_producer_stays_or_harms(server: RunningServer) -> None:
    chance = random.Random(SEED + 2)
    names = (
        "body",
        "id",
        "type",
        "headers",
        "path",
        "params",
        "reply",
        "replies",
        "job",
        "deadline",
        "attempts",
        "trace",
        "odd",
    )
    values = (
        *(each.encode() for each in TOKENS),
        *BODIES,
        b"marq:registry",
        b"marq:replies:x",
        b"1",
        *map(str.encode, TYPES),
    )
    with redis.Redis.from_url(server.redis_url) as client:
        lanes = [f"marq:{{{model}}}:{lane}:1.0" for model in MODELS for lane in ("high", "normal", "low")]
        for _ in range(40):
            with client.pipeline(transaction=False) as pipe:
                for _ in range(100):
                    fields = {
                        chance.choice(names): chance.choice(values) for _ in range(chance.randint(1, 6))
                    }
                    pipe.xadd(chance.choice(lanes), fields)
                pipe.execute()
        wait_for(
            lambda: not sum(client.xlen(lane) for lane in lanes), 120, "the end of all entries", server.log
        )


def test_no_reply_makes_a_gateway_deaf(server: RunningServer) -> None:
    chance = random.Random(SEED + 3)
    names = ("id", "status", "headers", "more", "body", "odd")
    values = (
        *(each.encode() for each in TOKENS),
        b"200",
        b"600",
        b"1",
        b'{"a": "\\r\\n"}',
        b'{"\\ud800": 1}',
        b"\xff",
    )
    with redis.Redis.from_url(server.redis_url) as client:
        gateways = [key for key in client.scan_iter(keys.replies("*")) if key != b"marq:replies:x"]
        assert len(gateways) == 2
        for _ in range(30):
            with client.pipeline(transaction=False) as pipe:
                for _ in range(100):
                    fields = {
                        chance.choice(names): chance.choice(values) for _ in range(chance.randint(1, 5))
                    }
                    pipe.xadd(chance.choice(gateways), fields)
                pipe.execute()


def test_no_config_line_raises_anything_but_its_fault(tmp_path: Path) -> None:
    chance, outcomes = random.Random(SEED + 4), Counter[str]()
    keys_ = (
        "models",
        "load_models",
        "job_queue_size",
        "inference_address",
        "cors_allowed_methods",
        "model_store",
        "odd",
        "#",
        "!",
    )
    file = tmp_path / "config.properties"
    for _ in range(2000):
        lines = [
            f"{chance.choice(keys_)}{chance.choice('=: ')}{text(chance)}" for _ in range(chance.randint(1, 5))
        ]
        file.write_text("\n".join(lines), encoding="utf-8")
        try:
            resolve(file, {}, {})
            outcomes["read"] += 1
        except SettingsError as error:
            assert str(error)
            outcomes["refused"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 100, outcomes


def test_no_archive_and_no_model_config_raises_anything_but_its_fault(
    make_archive: Callable[..., Path], tmp_path: Path
) -> None:
    chance, outcomes = random.Random(SEED + 5), Counter[str]()
    good = make_archive(tmp_path, "good", HANDLER, {"minWorkers": 1}).read_bytes()
    damaged = tmp_path / "damaged.mar"
    yaml_parts = (
        "minWorkers: 1\n",
        "a: &a ",
        "<<: *a\n",
        "- ",
        "? ",
        "{",
        "}",
        "[",
        "]",
        "!!int ",
        "0x",
        "|\n",
        "'",
        "1:59",
        "\n  ",
    )
    for _ in range(1500):
        data = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            start = chance.randrange(len(data))
            data[start : start + chance.choice((0, 1, 4, 100))] = chance.randbytes(chance.choice((0, 1, 4)))
        damaged.write_bytes(data)
        outcomes[outcome(lambda: reader.describe(damaged))] += 1
        outcomes[
            outcome(lambda: ModelConfig.parse("".join(chance.choices(yaml_parts, k=chance.randint(1, 30)))))
        ] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 100, outcomes


def outcome(read: Callable[[], object]) -> str:
    try:
        read()
    except ArchiveError as error:
        assert str(error)
        return "refused"
    return "read"
