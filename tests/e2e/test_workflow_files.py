"""Large bodies and answers of workflows are files, which Redis never sees and nothing leaves behind."""

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import redis
from gate import HOLD, Gate
from support import RunningServer, wait_for
from workflow_archives import pack_workflow

from marq import keys
from marq.payloads.job_files import JobFiles
from marq.payloads.place import default_directory

pytestmark = pytest.mark.slow
SIZE, REPEATS = 1_000_000, 3
FUNCTIONS = (
    HOLD
    + """
import os
import signal


def passed(data, name):
    return [pass_one(bytes(row["body"]), name) for row in data or ()]


def pass_one(body, name):
    where, _, command = body[:200].partition(b"\\n")[0].decode().partition(" ")
    what, _, argument = command.partition(" ")
    if where == name and what == "hold":
        hold(argument)
    elif where == name and what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif where == name and what == "die-once" and not Path(argument).exists():
        Path(argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return body + name.encode()


def first(data, context):
    return passed(data, "first")


def second(data, context):
    return passed(data, "second")


def third(data, context):
    return passed(data, "third")


def both(data, context):
    return [bytes(row["first"]) + bytes(row["second"]) for row in data or ()]
"""
)
PIPE = "dag:\n  first: [second]\n  second: [third]\n"
JOIN = "dag:\n  third: [first, second]\n  first: [both]\n  second: [both]\n"


@pytest.fixture(scope="module")
def server(shared_server) -> RunningServer:
    running: RunningServer = shared_server.server
    for name, spec in {"pipe": PIPE, "meet": JOIN}.items():
        pack_workflow(shared_server.store, name, spec, FUNCTIONS)
        query = {"url": f"{name}.war"}
        httpx.post(f"{running.management}/workflows", params=query, timeout=120).raise_for_status()
    wait_for(lambda: is_shared(running), what="bodies that are files")
    yield running
    for name in ("pipe", "meet"):
        httpx.delete(f"{running.management}/workflows/{name}", timeout=120)
    shared_server.clear()


@pytest.fixture(scope="module")
def client(server):
    with redis.Redis.from_url(server.redis_url) as connected:
        yield connected


def run(server: RunningServer, sent: bytes, workflow: str = "pipe") -> httpx.Response:
    return httpx.post(f"{server.inference}/wfpredict/{workflow}", content=sent, timeout=120)


def body(line: str = "", size: int = SIZE) -> bytes:
    return line.encode() + b"\n" + os.urandom(size - len(line) - 1)


def expected(sent: bytes) -> bytes:
    return sent + b"firstsecondthird"


def net_input(client) -> int:
    return int(client.info("stats")["total_net_input_bytes"])


def is_shared(server: RunningServer) -> bool:
    """Whether the gateways know that the replicas of all nodes read their files."""
    with redis.Redis.from_url(server.redis_url) as client:
        before = net_input(client)
        assert run(server, body()).status_code == 200
        return net_input(client) - before < SIZE


def files_of(run_id: str) -> list[Path]:
    """Those of the gateways; the servers of other tests may have the same directory."""
    return list(default_directory(Path()).rglob(f"{run_id}*"))


def files_of_jobs(client) -> list[str]:
    directories = client.hvals(keys.JOB_STORES)
    return [
        file.request_id for each in directories for file in JobFiles.found(each).all() if file.model == "pipe"
    ]


def wait_until_gone(client, job: str) -> None:
    run_id = job.partition(":")[2]
    wait_for(lambda: run_id not in files_of_jobs(client), what="the end of the files of a job")


def test_bodies_and_answers_stay_out_of_redis_and_leave_no_file(server, client):
    sent = body()
    before = net_input(client)
    answers = [run(server, sent) for _ in range(REPEATS)]
    assert [answer.content for answer in answers] == [expected(sent)] * REPEATS
    assert net_input(client) - before < SIZE
    for answer in answers:
        assert files_of(answer.headers["x-request-id"]) == []


def test_those_of_jobs_do_too_and_the_answer_alone_is_kept(server, client):
    sent = body()
    before = net_input(client)
    job = server.submit("pipe", sent)
    assert server.result(job).content == expected(sent)
    assert net_input(client) - before < SIZE
    wait_for(lambda: files_of_jobs(client).count(job.partition(":")[2]) == 1, what="the answer alone")


def test_a_join_gets_large_answers(server):
    sent = body("", 300_000)
    answer = run(server, sent, "meet")
    assert answer.content == sent + b"thirdfirst" + sent + b"thirdsecond"


@pytest.mark.parametrize("node", ["first", "second", "third"])
def test_a_replica_that_is_killed_loses_no_body(server, client, tmp_path, node):
    sent = body(f"{node} die-once {tmp_path / 'died'}")
    job = server.submit("pipe", sent)
    assert server.result(job).content == expected(sent)
    assert (tmp_path / "died").exists()


def test_a_key_is_that_of_one_body(server):
    sent, headers = body(), {"Idempotency-Key": os.urandom(8).hex()}
    job = server.submit("pipe", sent, headers=headers)
    assert server.submit("pipe", sent, headers=headers) == job
    other = httpx.post(f"{server.inference}/jobs/pipe", content=body(), headers=headers)
    assert other.status_code == 422
    assert server.result(job).content == expected(sent)


def test_a_cancelled_job_leaves_no_file(server, client, gate: Gate):
    job = server.submit("pipe", body(f"second hold {gate}"))
    gate.wait_until_reached()
    assert len([each for each in files_of_jobs(client) if job.endswith(each)]) == 2  # the input, an answer
    httpx.delete(f"{server.inference}/jobs/{job}").raise_for_status()
    gate.open()
    wait_until_gone(client, job)


def test_a_client_that_goes_away_leaves_no_file(server, gate: Gate):
    with ThreadPoolExecutor(1) as executor:
        sent = body(f"second hold {gate}")
        waiting = executor.submit(httpx.post, f"{server.inference}/wfpredict/pipe", content=sent, timeout=2)
        gate.wait_until_reached()
        found = [path for path in default_directory(Path()).rglob("*") if is_copy(path, sent)]
        assert len(found) == 2  # the input, and the first answer
        with pytest.raises(httpx.ReadTimeout):
            waiting.result()
    wait_for(lambda: not any(path.exists() for path in found), what="the end of the files of a run")


def test_a_dead_letter_of_a_node_has_the_body(server, client):
    sent = body("second die")
    job = server.submit("pipe", sent)
    wait_for(lambda: server.result(job).status_code == 500, what="the end of the run")
    [(_, letter)] = client.xrange(keys.dead_letters("pipe__second"))
    assert zlib.crc32(letter[b"body"]) == zlib.crc32(sent + b"first")
    wait_until_gone(client, job)


def is_copy(path: Path, sent: bytes) -> bool:
    """Whether a file begins with a body."""
    try:
        with path.open("rb") as file:
            return file.read(200) == sent[:200]
    except OSError:
        return False
