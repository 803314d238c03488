"""Large bodies and results of jobs are files, which Redis never sees, and which end with the job's record."""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis
from gate import HOLD, Gate
from support import RunningServer, wait_for

from marq import Client, keys
from marq.payloads.job_files import JobFiles, Stored

HANDLER = (
    HOLD
    + """
import os
import signal
import zlib


def handle(data, context):
    return data and [answer(row["body"], context) for row in data]


def answer(body, context):
    command, _, argument = bytes(body[:200]).partition(b"\\n")[0].decode().partition(" ")
    if command == "hold":
        hold(argument)
    elif command == "die" or (command == "die-unless" and not Path(argument).exists()):
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "die-once" and not Path(argument).exists():
        Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif command == "fail-once" and not Path(argument).exists():
        Path(argument).touch()
        raise ValueError("the first try fails")
    elif command == "answer":
        context.set_response_content_type(0, "image/png")
        return b"x" * int(argument)
    return f"{type(body).__name__} {len(body)} {zlib.crc32(body)}"
"""
)
MODEL = "large-jobs"
SIZE = 1_000_000


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, MODEL, HANDLER, {"minWorkers": 1, "maxWorkers": 1, "maxAttempts": 2})
    running: RunningServer = serve_models(store)
    running.wait_until_ready(MODEL)
    return running


@pytest.fixture(scope="module")
def client(server):
    with redis.Redis.from_url(server.redis_url) as connected:
        yield connected


def files(client) -> list[Stored]:
    """Those of this module's model."""
    directories = client.hvals(keys.JOB_STORES)
    return [file for each in directories for file in JobFiles.found(each).all() if file.model == MODEL]


def bodies(client, *jobs: str) -> list[int]:
    """The sizes of the bodies of these jobs."""
    return [file.size for file in files(client) if file.is_body and f"{MODEL}:{file.request_id}" in jobs]


def body(line: str, size: int = SIZE) -> bytes:
    return line.encode() + b"\n" + b"\x80" * (size - len(line) - 1)


def expected(sent: bytes) -> str:
    return f"bytearray {len(sent)} {zlib.crc32(sent)}"


def submit(server: RunningServer, sent: bytes, **headers: str) -> str:
    answer = httpx.post(f"{server.inference}/jobs/{MODEL}", content=sent, headers=headers)
    answer.raise_for_status()
    return str(answer.json()["job_id"])


def result(server: RunningServer, job: str) -> httpx.Response:
    return httpx.get(f"{server.inference}/jobs/{job}/result", params={"wait": 60}, timeout=90)


@pytest.mark.parametrize("size", [65_536, 65_537, 6_553_500])
def test_a_body_reaches_the_handler_as_it_was_sent(server, size):
    sent = body(os.urandom(50).hex(), size)
    assert result(server, submit(server, sent)).text == expected(sent)


def test_bodies_and_results_stay_out_of_redis(server, client, gate: Gate):
    held = submit(server, f"hold {gate}\n".encode())
    gate.wait_until_reached()
    before = client.info("stats")["total_net_input_bytes"]
    jobs = [submit(server, body(f"answer {SIZE}", 6_000_000)) for _ in range(4)]
    assert bodies(client, *jobs) == [6_000_000] * 4
    gate.open()
    answers = [result(server, job) for job in [held, *jobs]][1:]
    assert [answer.content for answer in answers] == [b"x" * SIZE] * 4
    assert {answer.headers["content-type"] for answer in answers} == {"image/png"}
    assert {answer.headers["content-length"] for answer in answers} == {str(SIZE)}
    assert client.info("stats")["total_net_input_bytes"] - before < SIZE
    wait_for(lambda: not bodies(client, *jobs), what="the end of the bodies")


def test_a_result_ends_with_its_record(server, client):
    job = submit(server, f"answer {SIZE}\n".encode())
    assert result(server, job).content == b"x" * SIZE
    [file] = [file for file in files(client) if f"{MODEL}:{file.request_id}" == job]
    client.delete(keys.job(MODEL, file.request_id))  # as if it had expired
    age(client, file)
    wait_for(lambda: file.ref not in {each.ref for each in files(client)}, what="the end of the result")


def age(client, file: Stored) -> None:
    """Makes a file old."""
    for directory in client.hvals(keys.JOB_STORES):
        os.utime(JobFiles.found(directory).path(file.ref), (1, 1))


def test_the_python_client_reads_such_a_result(server, client):
    job = submit(server, body(f"answer {SIZE}"))
    with Client(server.redis_url) as producer:
        assert producer.result(job).body == b"x" * SIZE
        own = producer.submit(MODEL, f"answer {SIZE}\n".encode())
        assert own.result().body == b"x" * SIZE
    client.delete(keys.job(MODEL, job.partition(":")[2]))


def test_a_client_that_waits_gets_it_as_its_answer(server):
    headers = {"Prefer": "respond-async, wait=60"}
    url = f"{server.inference}/predictions/{MODEL}"
    answer = httpx.post(url, content=body(f"answer {SIZE}"), headers=headers, timeout=90)
    assert (answer.status_code, answer.content) == (200, b"x" * SIZE)


def test_a_cancelled_job_leaves_no_body(server, client, gate: Gate):
    submit(server, f"hold {gate}\n".encode())
    gate.wait_until_reached()
    job = submit(server, body("waits"), **{"X-Marq-Priority": "low"})
    later = submit(server, body("later"), **{"X-Marq-Not-Before": "+3600"})
    assert bodies(client, job, later) == [SIZE] * 2
    for each in (job, later):
        httpx.delete(f"{server.inference}/jobs/{each}").raise_for_status()
    wait_for(lambda: not bodies(client, job, later), what="the end of the bodies")
    gate.open()


def test_a_key_is_that_of_one_body(server, client, gate: Gate):
    submit(server, f"hold {gate}\n".encode())
    gate.wait_until_reached()
    key, sent = {"Idempotency-Key": str(gate)}, body("once")
    jobs = {submit(server, sent, **key) for _ in range(3)}
    other = httpx.post(f"{server.inference}/jobs/{MODEL}", content=body("other"), headers=key)
    assert (len(jobs), other.status_code) == (1, 422)
    assert bodies(client, *jobs) == [SIZE]
    gate.open()
    assert result(server, jobs.pop()).text == expected(sent)


def test_a_lost_replica_loses_no_body(server, tmp_path):
    sent = body(f"die-once {tmp_path / 'died'}")
    assert result(server, submit(server, sent)).text == expected(sent)


def test_another_try_has_the_body(server, client, tmp_path):
    sent = body(f"fail-once {tmp_path / 'failed'}")
    job = submit(server, sent, **{"X-Marq-Retries": "1", "X-Marq-Retry-Delay": "0.01"})
    assert result(server, job).text == expected(sent)
    wait_for(lambda: not bodies(client, job), what="the end of the body")


def test_a_dead_letter_keeps_the_body_until_its_replay_has_ended(server, client, tmp_path):
    sent = body(f"die-unless {tmp_path / 'mended'}")
    job = submit(server, sent)
    assert result(server, job).status_code == 500
    letters = f"{server.management}/dead-letters/{MODEL}"
    [letter] = httpx.get(letters).json()["dead_letters"]
    assert httpx.get(f"{letters}/{letter['id']}/body").content == sent
    assert client.xrange(keys.dead_letters(MODEL))[0][1].get(b"body") is None
    client.delete(keys.job(MODEL, job.partition(":")[2]))  # its record expires sooner than the letter
    [file] = [file for file in files(client) if f"{MODEL}:{file.request_id}" == job]
    age(client, file)
    (tmp_path / "mended").touch()
    answer = httpx.post(f"{letters}/replay", json={"ids": [letter["id"]]}).json()
    assert result(server, answer["replayed"][0]["job_id"]).text == expected(sent)
    wait_for(lambda: not bodies(client, job), what="the end of the body")
    assert not client.exists(keys.holders(MODEL))


def test_a_client_that_goes_away_while_it_sends_leaves_no_file(server, client):
    before = {file.ref for file in files(client)}

    def arriving() -> bool:
        return any(file.size for file in files(client) if file.ref not in before)

    def parts():
        yield b"x" * 200_000
        wait_for(arriving, what="the file")
        raise ConnectionAbortedError

    with ThreadPoolExecutor(1) as executor:
        sending = executor.submit(httpx.post, f"{server.inference}/jobs/{MODEL}", content=parts())
        assert isinstance(sending.exception(), ConnectionAbortedError)
    wait_for(lambda: not arriving(), what="the end of the file")


def test_a_vanished_body_fails_its_own_job_only(server, client, gate: Gate):
    submit(server, f"hold {gate}\n".encode())
    gate.wait_until_reached()
    lost, good = submit(server, body("lost")), submit(server, body("good"))
    for file in files(client):
        if file.request_id == lost.partition(":")[2]:
            for directory in client.hvals(keys.JOB_STORES):
                JobFiles.found(directory).remove(file.ref)
    gate.open()
    answer = result(server, lost)
    assert (answer.status_code, "cannot be read" in answer.json()["message"]) == (503, True)
    assert result(server, good).text == expected(body("good"))
