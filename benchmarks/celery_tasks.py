"""Tasks of Celery's clients: marq's bridge, and a plain Celery worker with the same handler, in turn.

    python -m benchmarks.celery_tasks [COUNT]

Each gets COUNT messages in its queue before it starts to take them, on the same Redis; the time runs from its
first result to its last, as the result backend has them. The latency is that of tasks which are sent one by
one.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import redis
from celery import Celery

from benchmarks import workloads
from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import Workload
from marq.connections.celery_urls import broker_settings
from marq.host import server_file

COUNT = 20_000
ALONE = 200
TIMEOUT_S = 600.0
WORKLOAD = Workload("noop", 64)
LEAST_RATIO = 5.0
WORKER = """
from celery import Celery

app = Celery(broker={url!r}, backend={url!r})
app.conf.task_routes = {{"plain.*": {{"queue": "plain"}}}}


@app.task(name="plain.predict")
def predict(model, body):
    return "OK"
"""


def main() -> int:
    """Prints both rates; 1 if marq's is less than five times the worker's."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    with TemporaryDirectory(prefix="benchmark-") as directory:
        archives = workloads.pack(Path(directory))
        with Marq(MARQ_VENV, archives, WORKLOAD, job_queue_size=2 * count) as server:
            url = server_file.find(server.state_dir).redis_url
            rates = [
                _report("marq", _measure(url, "marq", count, lambda: _bridge(url, Path(directory)))),
                _report("worker", _measure(url, "plain", count, lambda: _worker(url, Path(directory)))),
            ]
    ratio = rates[0] / rates[1]
    print(f"marq's rate is {ratio:.1f} times the worker's ({count:,} tasks, {os.cpu_count()} cores)")
    return int(ratio < LEAST_RATIO)


def _report(name: str, found: tuple[float, float]) -> float:
    rate, alone_ms = found
    print(f"{name:<8} {rate:>9,.0f} tasks/s   {alone_ms:6.2f} ms for one task at a time", flush=True)
    return rate


def _measure(url: str, queue: str, count: int, start: Callable[[], Any]) -> tuple[float, float]:
    """Tasks per second, and ms for one task at a time."""
    broker = str(broker_settings(url, "")["broker_url"])
    app = Celery(broker=broker, backend=broker)
    app.conf.task_routes = {"marq.*": {"queue": "marq"}, "plain.*": {"queue": "plain"}}
    name = "marq.predict" if queue == "marq" else "plain.predict"
    with redis.Redis.from_url(url) as client:
        ids = [app.send_task(name, args=[WORKLOAD.kind, {"x": 1}]).id for _ in range(count)]
        keys = [f"celery-task-meta-{each}" for each in ids]
        with start():
            _wait(client, keys)
            alone = [_alone(app, name) for _ in range(ALONE)]
        results = [json.loads(text) for text in client.mget(keys)]
    if wrong := [each for each in results if each["result"] != "OK"]:
        sys.exit(f"{len(wrong)} of {count} results are wrong: {wrong[0]}")
    ends = sorted(datetime.fromisoformat(each["date_done"]) for each in results)
    return count / (ends[-1] - ends[0]).total_seconds(), 1000 * median(alone)


def _wait(client: "redis.Redis[bytes]", keys: list[str]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    left = keys
    while left:
        if time.monotonic() > deadline:
            sys.exit(f"{len(left)} of {len(keys)} tasks have no result")
        time.sleep(0.5)
        found = client.mget(left)
        left = [key for key, value in zip(left, found, strict=True) if value is None]


def _alone(app: Celery, name: str) -> float:
    began = time.perf_counter()
    app.send_task(name, args=[WORKLOAD.kind, {"x": 1}]).get(timeout=60)
    return time.perf_counter() - began


@contextmanager
def _running(command: list[str], directory: Path, **variables: str) -> Iterator[None]:
    environment = {**os.environ, "PYTHONPATH": str(directory), **variables}
    with subprocess.Popen(command, env=environment, cwd=directory, stdout=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


def _bridge(url: str, directory: Path) -> Any:
    state_dir = str(directory / "bridge")
    return _running(
        [sys.executable, "-P", "-m", "bridge"], directory, MARQ_REDIS_URL=url, MARQ_STATE_DIR=state_dir
    )


def _worker(url: str, directory: Path) -> Any:
    (directory / "plain.py").write_text(WORKER.format(url=broker_settings(url, "")["broker_url"]))
    command = [sys.executable, "-m", "celery", "-A", "plain", "worker", "-Q", "plain", "--loglevel", "ERROR"]
    return _running(command, directory)


if __name__ == "__main__":
    sys.exit(main())
