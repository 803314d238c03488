"""Processes are killed at random while runs pass six nodes, or lists: each run is answered once."""

import contextlib
import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import redis
from support import wait_for
from workflow_archives import pack_workflow

pytestmark = pytest.mark.slow

RUNS, CLIENTS = 300, 16
PAUSE_S = 0.3  # between kills, about
MOST_AGAIN = 40  # rows of the batches that a replica has run and not published
NODES = ("begin", "left", "right", "merge", "finish", "note")
JOBS, FIRST_JOB = 1000, 10_000
SPEC = """
models:
  batch-size: 4
  timeout-ms: 600000
  retry-attempts: 0
  left: {url: left.mar}
  right: {url: right.mar}
  merge: {url: merge.mar}
dag:
  begin: [left, right, note]
  left: [merge]
  right: [merge]
  merge: [finish]
"""
LISTS, ELEMENTS, FIRST_LIST = 300, 5, 100_000
LIST_NODES = ("split", "each", "total")
LIST_SPEC = """
models:
  batch-size: 4
  timeout-ms: 600000
  retry-attempts: 0
  each: {url: each.mar}
dag:
  split: [each]
  each: [total]
map: [each]
"""
# Each node logs what it runs, in one write
LOG = """
import json, os

def log(context, rows):
    text = "".join(f"{context.model_name} {row['id']}\\n" for row in rows)
    file = os.open("LOG", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, text.encode())
    os.close(file)

def read(row):
    return {name: json.loads(bytes(value)) for name, value in row.items()}
"""
ONE = (
    LOG
    + """
def handle(data, context):
    if data is None:
        return None
    rows = [read(row)["body"] for row in data]
    log(context, rows)
    return [{"id": row["id"], "path": row["path"] + context.model_name[6:7]} for row in rows]
"""
)
SEVERAL = (
    LOG
    + """
def handle(data, context):
    if data is None:
        return None
    rows = [read(row) for row in data]
    log(context, [row["left"] for row in rows])
    paths = [row["left"]["path"] + row["right"]["path"] + "m" for row in rows]
    return [{"id": row["left"]["id"], "path": path} for row, path in zip(rows, paths)]
"""
)
FUNCTIONS = (
    LOG
    + """
def begin(data, context):
    if data is None:
        return None
    rows = [{"id": int(row["body"]), "path": "b"} for row in data]
    log(context, rows)
    return rows

def note(data, context):
    return finish(data, context)

def finish(data, context):
    if data is None:
        return None
    rows = [read(row)["body"] for row in data]
    log(context, rows)
    return [{"id": row["id"], "path": row["path"] + context.model_name[6:7]} for row in rows]
"""
)


EACH = (
    LOG
    + """
def handle(data, context):
    if data is None:
        return None
    log(context, [row["body"] for row in data])
    return [{"id": row["body"]["id"], "by": "each"} for row in data]
"""
)
LIST_FUNCTIONS = (
    LOG
    + """
def split(data, context):
    if data is None:
        return None
    numbers = [int(row["body"]) for row in data]
    log(context, [{"id": number} for number in numbers])
    return [[{"id": number + place} for place in range(ELEMENTS)] for number in numbers]

def total(data, context):
    if data is None:
        return None
    rows = [read(row)["body"] for row in data]
    log(context, [row[0] for row in rows])
    return [[element["id"] for element in row] for row in rows]
"""
).replace("ELEMENTS", str(ELEMENTS))


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "ran"


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory, log):
    store = tmp_path_factory.mktemp("flows") / "store"
    for name, source in {"left": ONE, "right": ONE, "merge": SEVERAL, "each": EACH}.items():
        make_archive(store, name, source.replace("LOG", str(log)))
    pack_workflow(store, "flow", SPEC, FUNCTIONS.replace("LOG", str(log)))
    pack_workflow(store, "lists", LIST_SPEC, LIST_FUNCTIONS.replace("LOG", str(log)))
    server = start_server(store, [], ["--disable-token-auth", "--enable-model-api"], gateway_workers=1)
    for name in ("flow", "lists"):
        query = {"url": f"{name}.war", "startup_timeout": 300}
        httpx.post(f"{server.management}/workflows", params=query, timeout=400).raise_for_status()
    return server


class Killer(threading.Thread):
    """Kills one process after the other: mostly replicas, at times the others that are named.

    Only replicas that are ready, and their pools: on a busy machine they would never become so.
    """

    def __init__(self, server, others=("pool",), workflow="flow", nodes=NODES):
        super().__init__(daemon=True)
        self.server, self.others, self.stopping = server, others, threading.Event()
        self.models = [f"{workflow}__{node}" for node in nodes]
        self.kills: Counter[str] = Counter()
        self.random = random.Random(7)

    def run(self):
        while not self.stopping.wait(self.random.uniform(PAUSE_S / 2, PAUSE_S * 3 / 2)):
            with contextlib.suppress(httpx.TransportError, psutil.Error):
                self.kill(self.rarest() if self.random.random() < 0.15 else "replica")

    def rarest(self):
        return min(self.others, key=self.kills.__getitem__)

    def kill(self, kind):
        found = self.replicas() if kind in ("replica", "pool") else self.children(kind)
        if found:
            chosen = self.random.choice(found)
            (chosen.parent() if kind == "pool" else chosen).kill()
            self.kills[kind] += 1

    def replicas(self):
        workers = [worker for model in self.models for worker in self.server.workers(model)]
        return [psutil.Process(worker["pid"]) for worker in workers if worker["status"] == "READY"]

    def children(self, word):
        """The server's own processes with this word in their command lines."""
        children = psutil.Process(self.server.process.pid).children()
        return [each for each in children if any(word in part for part in each.cmdline())]

    def end(self):
        self.stopping.set()
        self.join()


def test_each_run_is_answered_once_whatever_is_killed(server, log):
    answers = {}

    def run(number):
        with httpx.Client(timeout=600) as client:
            answers[number] = client.post(f"{server.inference}/wfpredict/flow", content=str(number).encode())

    killer = Killer(server)
    killer.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(run, range(RUNS)))
    finally:
        killer.end()
    wrong = {n: answer.text for n, answer in answers.items() if answer.status_code != 200}
    assert not wrong
    for number, answer in answers.items():
        assert answer.json() == {
            "finish": {"id": number, "path": "blbrmf"}, "note": {"id": number, "path": "bn"}
        }  # fmt: skip
    ran = read_log(log)
    assert len(set(ran)) == 6 * RUNS, "each node of each run ran"
    assert len(ran) - 6 * RUNS <= MOST_AGAIN * killer.kills.total(), (
        "only rows that were not published ran again"
    )
    assert killer.kills.total() > 0
    with redis.Redis.from_url(server.redis_url) as client:
        assert client.keys("marq:{flow}:*") == []
        lanes = [key for key in client.keys("marq:{flow__*}:*:1.0") if client.type(key) == b"stream"]
        wait_for(lambda: not any(client.xlen(lane) for lane in lanes), what="empty lanes")


def test_runs_that_are_jobs_survive_the_end_of_gateways_nodes_and_redis_too(server, log):
    already_ran = len(read_log(log))
    with redis.Redis.from_url(server.redis_url) as client:
        client.config_set("appendfsync", "always")  # with `everysec` the last second may be lost
        client.config_rewrite()
    jobs = [server.submit("flow", str(FIRST_JOB + number).encode()) for number in range(JOBS)]
    killer = Killer(server, ("valkey-server", "gateway", "workers.node", "pool"))
    killer.start()
    try:
        for number in range(JOBS, 2 * JOBS):  # and while processes end
            jobs.append(submit(server, FIRST_JOB + number))
        finished = wait_for(lambda: records_of(server, jobs), timeout_s=900, what="the end of all runs")
    finally:
        killer.end()
    numbers = range(FIRST_JOB, FIRST_JOB + 2 * JOBS)
    assert [state for state, _ in finished] == [b"succeeded"] * 2 * JOBS
    assert [json.loads(body) for _, body in finished] == [
        {"finish": {"id": number, "path": "blbrmf"}, "note": {"id": number, "path": "bn"}}
        for number in numbers
    ]
    ran = read_log(log)[already_ran:]
    assert len(set(ran)) == 6 * 2 * JOBS, "each node of each run ran"
    assert len(ran) - len(set(ran)) <= MOST_AGAIN * killer.kills.total(), (
        "only rows that were not published ran again"
    )
    assert killer.kills["valkey-server"] > 0


def test_each_element_of_a_list_is_answered_once_and_in_its_place(server, log):
    already_ran = len(read_log(log))
    with redis.Redis.from_url(server.redis_url) as client:
        client.config_set("appendfsync", "always")
        client.config_rewrite()
    numbers = range(FIRST_LIST, FIRST_LIST + LISTS * ELEMENTS, ELEMENTS)
    killer = Killer(server, ("valkey-server", "gateway", "workers.node", "pool"), "lists", LIST_NODES)
    killer.start()
    try:
        jobs = [submit(server, number, "lists") for number in numbers]
        finished = wait_for(lambda: records_of(server, jobs), timeout_s=900, what="the end of all runs")
    finally:
        killer.end()
    assert [state for state, _ in finished] == [b"succeeded"] * LISTS
    assert [json.loads(body) for _, body in finished] == [
        list(range(number, number + ELEMENTS)) for number in numbers
    ]
    ran = read_log(log)[already_ran:]
    assert len(set(ran)) == LISTS * (2 + ELEMENTS), "each node of each run, and each element, ran"
    assert len(ran) - len(set(ran)) <= MOST_AGAIN * killer.kills.total(), (
        "only rows that were not published ran again"
    )
    assert killer.kills["valkey-server"] > 0


def read_log(log):
    return log.read_text().split("\n")[:-1] if log.exists() else []


def records_of(server, jobs):
    """States and answers of jobs; None while one of them runs, or Redis is down."""
    with contextlib.suppress(redis.RedisError, OSError), redis.Redis.from_url(server.redis_url) as client:
        pipeline = client.pipeline(transaction=False)
        for job in jobs:
            workflow, _, run_id = job.partition(":")
            pipeline.hmget(f"marq:{{{workflow}}}:job:{run_id}", "state", "body")
        found = pipeline.execute()
        return found if all(state not in (b"queued", b"scheduled") for state, _ in found) else None
    return None


def submit(server, number, workflow="flow"):
    """Queues one job, once, although a gateway may end before it answers."""
    headers = {"Idempotency-Key": str(number)}

    def queued():
        with contextlib.suppress(httpx.HTTPError):
            return server.submit(workflow, str(number).encode(), headers=headers)

    return wait_for(queued, timeout_s=120, what=f"job {number}", log=server.log)
