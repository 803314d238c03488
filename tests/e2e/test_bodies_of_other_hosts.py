"""Large bodies where the replicas of a model share no files: two servers on one Redis, as on two hosts."""

import itertools
import os
import signal
import socket
import time
import uuid
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
from marq.payloads.body_keys import TTL_S

pytestmark = pytest.mark.slow
HANDLER = (
    HOLD
    + """
import os
import signal
import time
import zlib


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and [answer(row["body"]) for row in data]


def answer(body):
    command, _, argument = bytes(body[:200]).partition(b"\\n")[0].decode().partition(" ")
    if command == "hold":
        hold(argument)
    elif command == "sleep":
        time.sleep(float(argument))
    elif command == "die-unless" and not Path(argument).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "die-once" and not Path(argument).exists():
        Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{len(body)} {zlib.crc32(body)}"
"""
)
MODEL, LANE = "far", keys.lane("far", "1.0")
SIZE = 1_000_000


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 2, "maxWorkers": 2, "batchSize": 1, "maxAttempts": 3}
    make_archive(store, MODEL, HANDLER, config)
    directory = tmp_path_factory.mktemp("files")
    running: RunningServer = start_server(store, gateway_workers=1, payload_dir=str(directory / "one"))
    start_server(store, redis_url=running.redis_url, gateway_workers=1, payload_dir=str(directory / "two"))
    wait_for(lambda: reports(running) == 2, what="a pool on each host")
    wait_for(lambda: sends_to_redis(running), what="a gateway that knows of both")
    return running


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server.redis_url) as connected:
        yield connected


def reports(server: RunningServer) -> int:
    with redis.Redis.from_url(server.redis_url) as client:
        return int(client.hlen(keys.pools(MODEL, "1.0")))


def sends_to_redis(server: RunningServer) -> bool:
    with redis.Redis.from_url(server.redis_url) as client:
        client.config_resetstat()
        answer = server.predict(MODEL, body(""))
        return answer.status_code == 200 and int(client.info("stats")["total_net_input_bytes"]) > SIZE


def body(line: str, size: int = SIZE) -> bytes:
    return line.encode() + b"\n" + b"\x80" * (size - len(line) - 1)


def expected(sent: bytes) -> str:
    return f"{len(sent)} {zlib.crc32(sent)}"


def bodies(client) -> list[bytes]:
    return sorted(client.scan_iter(match="marq:{*}:body*", count=1000))


def submit(server: RunningServer, sent: bytes) -> str:
    """Submits until the server accepts, with a key: once."""
    key = {"Idempotency-Key": str(uuid.uuid4())}

    def accepted() -> str:
        try:
            answer = httpx.post(f"{server.inference}/jobs/{MODEL}", content=sent, headers=key, timeout=60)
        except httpx.TransportError:
            return ""
        return str(answer.json()["job_id"]) if answer.status_code == 202 else ""

    return str(wait_for(accepted, what="the job"))


def result(server: RunningServer, job: str) -> httpx.Response:
    return httpx.get(f"{server.inference}/jobs/{job}/result", params={"wait": 60}, timeout=90)


def processes(server: RunningServer, name: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process(server.process.pid).children(recursive=True)
        if any(name in part for part in process.cmdline())
    ]


def hold_all(server: RunningServer, executor: ThreadPoolExecutor, gate: Gate) -> list:
    """Both replicas run a request until the gate opens."""
    held = [executor.submit(server.predict, MODEL, f"hold {gate}\n".encode()) for _ in range(2)]
    with redis.Redis.from_url(server.redis_url) as client:
        wait_for(lambda: client.xpending(LANE, keys.GROUP)["pending"] == 2, what="two that run")
    return held


def test_the_lane_stays_small_and_the_answers_are_right(server, client, gate: Gate):
    with ThreadPoolExecutor(6) as executor:
        held = hold_all(server, executor, gate)
        sent = [body(os.urandom(20).hex()) for _ in range(4)]
        asked = [executor.submit(server.predict, MODEL, each) for each in sent]
        wait_for(lambda: client.xlen(LANE) == 6, what="the requests")
        assert client.memory_usage(LANE, samples=0) < 20_000
        assert [client.strlen(key) for key in bodies(client)] == [SIZE] * 4
        gate.open()
        assert [each.result().text for each in asked] == [expected(each) for each in sent]
        assert {each.result().status_code for each in held} == {200}
    wait_for(lambda: bodies(client) == [], what="the end of the bodies")


def test_a_body_outlives_the_replicas_that_end_with_it(server, client, tmp_path):
    sent = body(f"die-once {tmp_path / 'died'}")
    assert server.predict(MODEL, sent).text == expected(sent)
    job = body(f"die-once {tmp_path / 'died, too'}")
    assert result(server, submit(server, job)).text == expected(job)
    wait_for(lambda: bodies(client) == [], what="the end of the bodies")


def test_a_dead_letter_keeps_the_body_and_can_be_replayed(server, client, tmp_path):
    sent = body(f"die-unless {tmp_path / 'mended'}")
    assert server.predict(MODEL, sent).status_code == 500
    wait_for(lambda: bodies(client) == [], what="the end of the body")
    [letter] = httpx.get(f"{server.management}/dead-letters/{MODEL}").json()["dead_letters"]
    url = f"{server.management}/dead-letters/{MODEL}"
    assert httpx.get(f"{url}/{letter['id']}/body").content == sent
    (tmp_path / "mended").touch()
    replayed = httpx.post(f"{url}/replay", json={"ids": [letter["id"]]}).json()["replayed"]
    assert result(server, replayed[0]["job_id"]).text == expected(sent)


def test_clients_and_jobs_that_do_not_wait_leave_no_body(server, client, gate: Gate):
    with ThreadPoolExecutor(4) as executor:
        held = hold_all(server, executor, gate)
        where, sent = urlsplit(server.inference), body("gone")
        with socket.create_connection((where.hostname, where.port)) as gone:
            request = f"POST /predictions/{MODEL} HTTP/1.1\r\nHost: x\r\nContent-Length: {SIZE}\r\n\r\n"
            gone.sendall(request.encode() + sent)
            wait_for(lambda: bodies(client), what="the body")
            assert 0 < client.ttl(bodies(client)[0]) <= TTL_S
        wait_for(lambda: bodies(client) == [], what="its end")
        job = submit(server, sent)
        assert [client.ttl(key) for key in bodies(client)] == [-1, -1]  # the body, and the count of bytes
        assert httpx.delete(f"{server.inference}/jobs/{job}").status_code == 200
        assert bodies(client) == []
        late = executor.submit(server.predict, MODEL, sent, headers={"X-Request-Timeout": "0.2"})
        wait_for(lambda: bodies(client), what="the body of a request with a deadline")
        time.sleep(0.3)  # until the deadline has passed
        gate.open()
        assert late.result().status_code == 504
        assert {each.result().status_code for each in held} == {200}
    wait_for(lambda: bodies(client) == [], what="the end of the bodies")


def test_a_gateway_that_is_killed_leaves_bodies_that_expire(server, client, gate: Gate):
    with ThreadPoolExecutor(4) as executor:
        hold_all(server, executor, gate)
        asked = executor.submit(server.predict, MODEL, body("killed"))
        [key] = wait_for(lambda: bodies(client), what="the body")
        [gateway] = [each for each in processes(server, "gateway") if each.cmdline()[-1] == "gateway"]
        gateway.kill()
        assert isinstance(asked.exception(), httpx.TransportError)
        gate.open()
        assert 0 < client.ttl(key) <= TTL_S
        client.delete(key)
    wait_for(lambda: client.xlen(LANE) == 0, what="an empty lane")
    wait_for(lambda: responds(server), what="the next gateway")


def responds(server: RunningServer) -> bool:
    try:
        return server.predict(MODEL, body("again")).status_code == 200
    except httpx.TransportError:
        return False


def test_nothing_is_lost_or_left_while_replicas_and_pools_are_killed(server, client):
    end = time.monotonic() + 10

    def produce(number: int) -> None:
        while time.monotonic() < end:
            sent = body(f"sleep 0.02\n{os.urandom(9).hex()}", 400_000)
            answer = result(server, submit(server, sent)) if number % 2 else server.predict(MODEL, sent)
            assert answer.text == expected(sent)

    with ThreadPoolExecutor(4) as executor:
        producing = [executor.submit(produce, number) for number in range(4)]
        for name in itertools.cycle(("workers.replica", "workers.replica", "workers.pool")):
            if time.monotonic() > end:
                break
            for process in processes(server, name)[:1]:
                process.send_signal(signal.SIGKILL)
            time.sleep(1)
        for each in producing:
            each.result()
    wait_for(lambda: client.xlen(LANE) == 0, what="an empty lane")
    wait_for(lambda: bodies(client) == [], what="the end of the bodies")
