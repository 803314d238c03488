"""Large bodies and answers are files, which Redis never sees and nothing leaves behind."""

import os
import signal
import socket
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
import redis
from gate import HOLD, Gate
from support import RunningServer, wait_for

from marq import keys

HANDLER = (
    HOLD
    + """
import os
import signal
import zlib


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and [answer(row["body"]) for row in data]


def answer(body):
    command, _, argument = bytes(body[:200]).partition(b"\\n")[0].decode().partition(" ")
    if command == "hold":
        hold(argument)
    elif command == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "die-once" and not Path(argument).exists():
        Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "answer":
        return b"x" * int(argument)
    return f"{type(body).__name__} {len(body)} {zlib.crc32(body)}"
"""
)
SIZE = 1_000_000


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 4, "maxBatchDelay": 5, "jobQueueSize": 100}
    make_archive(store, "large", HANDLER, config)
    directory = tmp_path_factory.mktemp("files") / "payloads"
    running: RunningServer = start_server(
        store, payload_dir=str(directory), gateway_workers=1, max_payload_bytes=20 * SIZE
    )
    running.wait_until_ready("large")
    wait_for(lambda: is_shared(running), what="bodies that are files")
    return running


def directory(server: RunningServer) -> Path:
    for line in server.log.with_name("config.properties").read_text().splitlines():
        if line.startswith("payload_dir="):
            return Path(line.partition("=")[2])
    raise AssertionError


def files(server: RunningServer) -> list[Path]:
    return [path for path in directory(server).rglob("*") if path.is_file()]


def sizes(server: RunningServer) -> list[int]:
    """Those of the files; none while one of them is just being removed."""
    try:
        return [path.stat().st_size for path in files(server)]
    except FileNotFoundError:
        return []


def is_shared(server: RunningServer) -> bool:
    """Whether the gateway knows that its replicas read its files: a body is none of Redis's then."""
    with redis.Redis.from_url(server.redis_url) as client:
        client.config_resetstat()
        assert server.predict("large", body("", 900_000)).status_code == 200
        return int(client.info("stats")["total_net_input_bytes"]) < 900_000


def gateway(server: RunningServer) -> psutil.Process:
    children = psutil.Process(server.process.pid).children()
    [found] = [child for child in children if child.cmdline()[-1:] == ["gateway"]]
    return found


def body(line: str, size: int = SIZE) -> bytes:
    return line.encode() + b"\n" + b"\x80" * (size - len(line) - 1)


def expected(sent: bytes) -> str:
    return f"bytearray {len(sent)} {zlib.crc32(sent)}"


@pytest.mark.parametrize("size", [65_536, 65_537, 300_000, 6_553_500])
def test_a_body_reaches_the_handler_as_it_was_sent(server: RunningServer, size: int) -> None:
    sent = body(os.urandom(50).hex(), size)
    assert server.predict("large", sent).text == expected(sent)
    assert files(server) == []


def test_bodies_of_unknown_length_do_too(server: RunningServer) -> None:
    sent = body("chunked")
    parts = (sent[at : at + 50_000] for at in range(0, len(sent), 50_000))
    answer = httpx.post(f"{server.inference}/predictions/large", content=parts, timeout=60)
    assert answer.text == expected(sent)
    assert files(server) == []


def test_large_answers_come_back_whole(server: RunningServer) -> None:
    answers = [server.predict("large", f"answer {size}\n".encode()) for size in (65_536, 65_537, 6_000_000)]
    assert [answer.content for answer in answers] == [b"x" * len(answer.content) for answer in answers]
    assert [len(answer.content) for answer in answers] == [65_536, 65_537, 6_000_000]
    assert files(server) == []


def test_redis_does_not_see_them(server: RunningServer, gate: Gate) -> None:
    with redis.Redis.from_url(server.redis_url) as client, ThreadPoolExecutor(8) as executor:
        before = client.info("stats")["total_net_input_bytes"]
        asked = [executor.submit(server.predict, "large", body(f"hold {gate}")) for _ in range(8)]
        wait_for(lambda: sum(sizes(server)) == 8 * SIZE, what="the bodies")
        gate.wait_until_reached()
        gate.open()
        assert {answer.result().status_code for answer in asked} == {200}
        answers = [executor.submit(server.predict, "large", f"answer {SIZE}\n".encode()) for _ in range(8)]
        assert {len(answer.result().content) for answer in answers} == {SIZE}
        assert client.info("stats")["total_net_input_bytes"] - before < 4 * SIZE
    assert files(server) == []


def test_a_gateway_holds_no_body_in_memory(server: RunningServer, gate: Gate) -> None:
    size = 6_500_000
    assert server.predict("large", body("warm", size)).status_code == 200
    before = gateway(server).memory_info().rss
    with ThreadPoolExecutor(3) as executor:
        asked = [executor.submit(server.predict, "large", body(f"hold {gate}", size)) for _ in range(3)]
        wait_for(lambda: sum(sizes(server)) == 3 * size, what="the bodies")
        grown = gateway(server).memory_info().rss - before
        gate.open()
        assert {answer.result().status_code for answer in asked} == {200}
    assert grown < size


def test_a_replica_that_ends_loses_no_body(server: RunningServer, tmp_path: Path) -> None:
    sent = body(f"die-once {tmp_path / 'died'}")
    assert server.predict("large", sent).text == expected(sent)
    assert files(server) == []


def test_a_dead_letter_keeps_its_body_and_can_be_replayed(server: RunningServer) -> None:
    sent = body("die")
    answer = server.predict("large", sent)
    assert (answer.status_code, "Worker died" in answer.text) == (500, True)
    assert files(server) == []
    letters = httpx.get(f"{server.management}/dead-letters/large").json()["dead_letters"]
    url = f"{server.management}/dead-letters/large/{letters[0]['id']}"
    assert httpx.get(f"{url}/body").content == sent


def test_a_client_that_goes_away_leaves_no_file(server: RunningServer, gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        holding = executor.submit(server.predict, "large", f"hold {gate}\n".encode())
        gate.wait_until_reached()
        where = urlsplit(server.inference)
        sent = body("waits")
        request = f"POST /predictions/large HTTP/1.1\r\nHost: x\r\nContent-Length: {len(sent)}\r\n\r\n"
        for size in (SIZE, SIZE // 2):  # a queued request, and an incomplete one
            with socket.create_connection((where.hostname, where.port)) as client:
                client.sendall(request.encode() + sent[:size])
                wait_for(
                    lambda size=size: sizes(server) == [size],
                    what="the file",
                )
            wait_for(lambda: files(server) == [], what="the end of the file")
        gate.open()
        assert holding.result().status_code == 200


def test_a_file_that_has_vanished_fails_its_own_request_only(server: RunningServer, gate: Gate) -> None:
    with ThreadPoolExecutor(4) as executor:
        holding = executor.submit(server.predict, "large", f"hold {gate}\n".encode())
        gate.wait_until_reached()
        good = body("good")
        lost = executor.submit(server.predict, "large", body("lost"))
        wait_for(lambda: sizes(server) == [SIZE], what="the body")
        [file] = files(server)
        fine = executor.submit(server.predict, "large", good)
        wait_for(lambda: len(files(server)) == 2, what="the other body")
        file.unlink()
        gate.open()
        assert holding.result().status_code == 200
        assert fine.result().text == expected(good)
        assert lost.result().status_code == 503
        assert "cannot be read" in lost.result().json()["message"]
    assert files(server) == []


def test_what_has_no_room_is_refused_before_it_is_read(server: RunningServer, gate: Gate) -> None:
    with ThreadPoolExecutor(4) as executor:
        asked = [executor.submit(server.predict, "large", body(f"hold {gate}", 6_500_000)) for _ in range(3)]
        wait_for(lambda: len(files(server)) == 3, what="three bodies")
        where = urlsplit(server.inference)
        with socket.create_connection((where.hostname, where.port), timeout=60) as client:
            client.sendall(b"POST /predictions/large HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
            answer = b""
            while b"}" not in answer:  # nothing of the body was sent
                answer += client.recv(65_536)
        gate.open()
        assert {each.result().status_code for each in asked} == {200}
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"max_payload_bytes" in answer
    assert server.predict("large", body("again")).status_code == 200


def test_a_gateway_that_is_killed_leaves_no_file(server: RunningServer, gate: Gate) -> None:
    with ThreadPoolExecutor(1) as executor:
        asked = executor.submit(server.predict, "large", body(f"hold {gate}"))
        gate.wait_until_reached()
        assert len(files(server)) == 1
        os.kill(gateway(server).pid, signal.SIGKILL)
        assert isinstance(asked.exception(), httpx.TransportError)
        wait_for(lambda: files(server) == [], what="the sweep")
        gate.open()
    wait_for(lambda: responds(server), what="the next gateway")
    wait_for(lambda: is_shared(server), what="bodies that are files")
    assert files(server) == []


def responds(server: RunningServer) -> bool:
    try:
        return server.predict("large", body("hello")).status_code == 200
    except httpx.TransportError:
        return False


def test_where_pools_do_not_share_the_directory_bodies_travel_through_redis(
    server: RunningServer,
) -> None:
    with redis.Redis.from_url(server.redis_url) as client:
        pools, other = keys.pools("large", "1.0"), b"large-1.0@other"

        def is_known() -> bool:
            """A pool of another host reports, again and again."""
            [report] = [report for name, report in client.hgetall(pools).items() if name != other]
            client.hset(pools, other, report.replace(b'"payloads": "', b'"payloads": "other:'))
            return not is_shared(server)

        wait_for(is_known, what="a gateway that knows")
        sent = body("inline")
        assert server.predict("large", sent).text == expected(sent)
        assert server.predict("large", f"answer {SIZE}\n".encode()).content == b"x" * SIZE
        client.hdel(pools, other)
