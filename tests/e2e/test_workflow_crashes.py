"""Replicas and pools are killed at random while runs pass through six nodes: each run is answered once."""

import random
import threading
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


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return tmp_path_factory.mktemp("log") / "ran"


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory, log):
    store = tmp_path_factory.mktemp("flows") / "store"
    for name, source in {"left": ONE, "right": ONE, "merge": SEVERAL}.items():
        make_archive(store, name, source.replace("LOG", str(log)))
    pack_workflow(store, "flow", SPEC, FUNCTIONS.replace("LOG", str(log)))
    server = start_server(store, [], ["--disable-token-auth", "--enable-model-api"], gateway_workers=1)
    query = {"url": "flow.war", "startup_timeout": 300}
    httpx.post(f"{server.management}/workflows", params=query, timeout=400).raise_for_status()
    return server


class Killer(threading.Thread):
    """Kills one replica or pool after the other, more replicas than pools."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.stopping, self.kills = server, threading.Event(), 0
        self.random = random.Random(7)

    def run(self):
        while not self.stopping.wait(self.random.uniform(PAUSE_S / 2, PAUSE_S * 3 / 2)):
            wanted = "workers.app" if self.random.random() < 0.1 else "workers.replica"
            found = [
                each for each in psutil.Process(self.server.process.pid).children(True) if is_of(each, wanted)
            ]
            if found:
                self.random.choice(found).kill()
                self.kills += 1

    def end(self):
        self.stopping.set()
        self.join()


def is_of(process, module):
    try:
        return module in process.cmdline()
    except psutil.Error:
        return False


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
    ran = log.read_text().split("\n")[:-1]
    assert len(set(ran)) == 6 * RUNS, "each node of each run ran"
    assert len(ran) - 6 * RUNS <= 4 * killer.kills, (
        "only rows that were running when their replica ended ran again"
    )
    assert killer.kills > 0
    with redis.Redis.from_url(server.redis_url) as client:
        assert client.keys("marq:{flow}:*") == []
        lanes = [key for key in client.keys("marq:{flow__*}:*:1.0") if client.type(key) == b"stream"]
        wait_for(lambda: not any(client.xlen(lane) for lane in lanes), what="empty lanes")
