"""`python -m benchmarks.jobs`: how fast one producer queues jobs, and how fast one replica of a no-op handler
runs them, with the CPU time of each process for a job."""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

import marq
from benchmarks import processes
from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import VERSION, Archives, Workload, pack
from marq.connections import clients
from marq.host import server_file
from marq.registry.models import Registry

BATCH = 64
RESULTS_CHECKED = 1000
TIMEOUT_S = 300.0
STARTED = 10  # the replica's start and its first tenth of the jobs are left out of its CPU time
BODY = {"x": 1}
WORKLOAD = Workload("noop", BATCH)


class JobsFailed(Exception):
    """Raised when the queue cannot be measured."""


def measure(archives: Archives, count: int) -> dict[str, Any]:
    """One run. Raises ServerFailed or JobsFailed."""
    with Marq(MARQ_VENV, archives, WORKLOAD, job_queue_size=2 * count) as server:
        redis_url = server_file.find(server.state_dir).redis_url
        with marq.Client(redis_url) as client:
            client.predict(WORKLOAD.kind, BODY)  # connected, and the model known
            scale(server, redis_url, 0)
            queueing = processes.Roles(server.tree)
            began = time.perf_counter()
            jobs = client.submit_many(WORKLOAD.kind, [BODY] * count)
            enqueue_s = time.perf_counter() - began
            queued = queueing.read()
            began = time.perf_counter()
            scale(server, redis_url, 1)
            client.result(jobs[count // STARTED], TIMEOUT_S)
            running = processes.Roles(server.tree)
            client.result(jobs[-1], TIMEOUT_S)
            ran = running.read()
            until_last_s = time.perf_counter() - began
            drain_s = _check(client, jobs)
    left = count - count // STARTED
    return {
        "jobs": count,
        "enqueue_per_s": round(count / enqueue_s),
        "drain_per_s": round(count / drain_s),
        "scale_up_and_drain_s": round(until_last_s, 2),
        "cpu_us": {
            "client, queueing": _us(queued["benchmark"], count),
            "Redis, queueing": _us(queued["redis"], count),
            "Redis, running": _us(ran["redis"], left),
            "replica, running": _us(ran["replica"], left),
        },
    }


def _us(seconds: float, jobs: int) -> float:
    return round(1e6 * seconds / jobs, 1)


def scale(server: Marq, redis_url: str, replicas: int) -> None:
    """Scales to `replicas`; for 0 waits until the replicas have ended."""
    sizes = {"min_worker": replicas, "max_worker": replicas}
    answer = httpx.put(f"{server.management}/models/{WORKLOAD.kind}", params=sizes, timeout=60)
    if answer.is_error:
        raise JobsFailed(f"scaling to {replicas} was answered with {answer.status_code}: {answer.text}")
    deadline = time.monotonic() + TIMEOUT_S
    with clients.client(redis_url) as redis:
        registry = Registry(redis)
        spec = registry.models().get(WORKLOAD.kind, VERSION)
        while not replicas and registry.replicas(spec):
            if time.monotonic() > deadline:
                raise JobsFailed("the replica does not stop")
            time.sleep(0.1)


def _check(client: "marq.Client", jobs: "list[marq.Job]") -> float:
    """Seconds from the start of the first job to the end of the last, by their records.

    Raises JobsFailed if a job among those that are looked at has another answer than OK.
    """
    looked_at = random.Random(0).sample(jobs, min(RESULTS_CHECKED, len(jobs)))
    for job in looked_at:
        record = client.status(job)
        if record.status != 200 or record.body != b"OK":
            raise JobsFailed(f"job {job} is {record.state} with {record.body!r}")
    started = min(_time(client.status(job).started) for job in jobs[:BATCH])
    return max(_time(client.status(job).finished) for job in jobs[-BATCH:]) - started


def _time(value: float | None) -> float:
    if value is None:
        raise JobsFailed("a finished job has no times")
    return value


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=60_000, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="benchmark-") as directory:
        archives = pack(Path(directory))
        found = [measure(archives, options.jobs) for _ in range(options.rounds)]
    for name in ("enqueue_per_s", "drain_per_s"):
        print(f"{name}: {statistics.median(row[name] for row in found):,.0f}")
    for name in found[0]["cpu_us"]:
        print(f"{name}: {statistics.median(row['cpu_us'][name] for row in found):.1f} µs of CPU a job")
    return 0


if __name__ == "__main__":
    sys.exit(main())
