"""Jobs with bodies and results on both sides of the threshold, while processes of the server are killed."""

import itertools
import os
import signal
import time
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import redis
from support import RunningServer, wait_for

from marq import keys
from marq.payloads.job_files import JobFiles

pytestmark = pytest.mark.slow
HANDLER = """
import time
import zlib


def handle(data, context):
    if not data:
        return None
    time.sleep(0.02)
    return [b"%d " % zlib.crc32(row["body"]) + b"x" * len(row["body"]) for row in data]
"""
SIZES = (100, 70_000, 10_000, 400_000)
SECONDS = 20.0
KILLED = ("workers.replica", "gateway", "valkey-server", "workers.pool", "workers.node")


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    config = {"minWorkers": 2, "maxWorkers": 2, "batchSize": 4, "maxAttempts": 100}
    make_archive(store, "sized", HANDLER, config)
    running: RunningServer = start_server(store, gateway_workers=2)
    running.wait_until_ready("sized", 2)
    return running


def kill_one(server: RunningServer, name: str) -> None:
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            if any(name in part for part in process.cmdline()):
                process.send_signal(signal.SIGKILL)
                return
        except psutil.NoSuchProcess:
            continue


def submit(server: RunningServer, sent: bytes) -> str:
    """Submits until the server accepts, with a key: once."""
    key = {"Idempotency-Key": str(uuid.uuid4())}
    while True:
        try:
            answer = httpx.post(f"{server.inference}/jobs/sized", content=sent, headers=key, timeout=60)
            if answer.status_code == 202:
                return str(answer.json()["job_id"])
            assert answer.status_code in (429, 503), answer.text
        except httpx.TransportError:
            pass
        time.sleep(0.1)


def test_no_job_is_lost_and_no_file_is_left(server):
    sent: dict[str, bytes] = {}
    end = time.monotonic() + SECONDS

    def produce(number: int) -> None:
        for size in itertools.cycle(SIZES[number:] + SIZES[:number]):
            if time.monotonic() > end:
                return
            body = os.urandom(16) + b"\x80" * size
            sent[submit(server, body)] = body

    with ThreadPoolExecutor(4) as executor:
        producing = [executor.submit(produce, number) for number in range(4)]
        for name in itertools.cycle(KILLED):
            if time.monotonic() > end:
                break
            kill_one(server, name)
            time.sleep(1.5)
        for each in producing:
            each.result()
    assert len(sent) > 20
    for job, body in sent.items():
        answer = wait_for(lambda job=job: finished(server, job), 120, f"job {job}", server.log)
        assert answer.status_code == 200, answer.text
        assert answer.content == b"%d " % zlib.crc32(body) + b"x" * len(body)
    assert_no_files(server)


def finished(server: RunningServer, job: str) -> httpx.Response | None:
    try:
        answer = httpx.get(f"{server.inference}/jobs/{job}/result", params={"wait": 5}, timeout=60)
    except httpx.TransportError:
        return None
    return None if answer.status_code in (409, 503) and "cannot be read" not in answer.text else answer


def assert_no_files(server: RunningServer) -> None:
    files = JobFiles(server.state_dir / "job-payloads", 0)

    def one_result_each() -> bool:
        """Whether the results of attempts that came too late are gone, as long as records tell them apart."""
        ids = [file.request_id for file in files.all() if not file.is_body]
        return 0 < len(ids) == len(set(ids))

    wait_for(one_result_each, what="the end of late results")
    for file in files.all():
        os.utime(files.path(file.ref), (1, 1))  # those that were never submitted are old now
    wait_for(lambda: not any(file.is_body for file in files.all()), what="the end of all bodies")
    with redis.Redis.from_url(server.redis_url) as client:
        records = [keys.job("sized", file.request_id) for file in files.all()]
        client.delete("-", *records)  # as if they had expired
    wait_for(lambda: not list(files.all()), what="the end of all results")
