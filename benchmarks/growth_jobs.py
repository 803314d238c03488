"""The cost of a backlog of jobs: to queue, list, keep and cancel them, and to run the oldest."""

import time

import marq
from benchmarks.growth_models import least_ms
from benchmarks.jobs import BODY, TIMEOUT_S, WORKLOAD, scale
from benchmarks.processes import Roles, pss_mb, role_of
from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import Archives
from marq.connections import clients
from marq.host import server_file

MOST_RUN = 20_000
CANCELLED, TAG = 1000, "cancelled"  # jobs that one call cancels by their tag


def backlog(archives: Archives, count: int) -> dict[str, float]:
    """With so many queued jobs of one model."""
    with Marq(MARQ_VENV, archives, WORKLOAD, job_queue_size=2 * count + 100) as server:
        redis_url = server_file.find(server.state_dir).redis_url
        with marq.Client(redis_url) as client, clients.client(redis_url) as redis:
            client.predict(WORKLOAD.kind, BODY)
            scale(server, redis_url, 0)
            empty, gateways = redis.info("memory")["used_memory"], _gateways_mb(server)
            queueing, began = Roles(server.tree), time.perf_counter()
            jobs = client.submit_many(WORKLOAD.kind, [BODY] * count)
            took, queued = time.perf_counter() - began, queueing.read()
            bytes_each = (redis.info("memory")["used_memory"] - empty) / count
            page_ms = least_ms(f"{server.inference}/jobs?model={WORKLOAD.kind}&limit=50")
            cancel_ms = _cancel_ms(client)
            grown = _gateways_mb(server) - gateways
            run = min(count, MOST_RUN)
            scale(server, redis_url, 1)
            client.result(jobs[run // 10], TIMEOUT_S)
            running = Roles(server.tree)
            client.result(jobs[run - 1], TIMEOUT_S)
            ran = running.read()
    left = run - run // 10
    return {
        "queued, jobs/s": count / took,
        "client, queueing, µs": 1e6 * queued["benchmark"] / count,
        "redis, queueing, µs": 1e6 * queued["redis"] / count,
        "redis, running, µs": 1e6 * ran["redis"] / left,
        "replica, running, µs": 1e6 * ran["replica"] / left,
        "GET /jobs, ms": page_ms,
        "cancel 1,000 by a tag, ms": cancel_ms,
        "bytes a job": bytes_each,
        "gateways, more MB": grown,
    }


def _cancel_ms(client: marq.Client) -> float:
    """The time of one call that cancels the jobs of a tag, which are the newest."""
    client.submit_many(WORKLOAD.kind, [BODY] * CANCELLED, tags=[TAG])
    began = time.perf_counter()
    client.cancel_many(WORKLOAD.kind, tag=TAG, limit=CANCELLED)
    return 1000 * (time.perf_counter() - began)


def _gateways_mb(server: Marq) -> float:
    return pss_mb(server.tree.processes(), lambda process: role_of(process) == "gateway")
