"""What a backlog of jobs costs: to queue them, to list them, to keep them, and to run the oldest."""

import marq
from benchmarks.growth_models import least_ms
from benchmarks.jobs import BODY, TIMEOUT_S, WORKLOAD, scale
from benchmarks.processes import Roles
from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import Archives
from marq.connections import clients
from marq.host import server_file

MOST_RUN = 20_000


def backlog(archives: Archives, count: int) -> dict[str, float]:
    """With so many queued jobs of one model."""
    with Marq(MARQ_VENV, archives, WORKLOAD, job_queue_size=2 * count + 100) as server:
        redis_url = server_file.find(server.state_dir).redis_url
        with marq.Client(redis_url) as client, clients.client(redis_url) as redis:
            client.predict(WORKLOAD.kind, BODY)
            scale(server, redis_url, 0)
            empty, queueing = redis.info("memory")["used_memory"], Roles(server.tree)
            jobs = client.submit_many(WORKLOAD.kind, [BODY] * count)
            queued = queueing.read()
            bytes_each = (redis.info("memory")["used_memory"] - empty) / count
            page_ms = least_ms(f"{server.inference}/jobs?model={WORKLOAD.kind}&limit=50")
            run = min(count, MOST_RUN)
            scale(server, redis_url, 1)
            client.result(jobs[run // 10], TIMEOUT_S)
            running = Roles(server.tree)
            client.result(jobs[run - 1], TIMEOUT_S)
            ran = running.read()
    left = run - run // 10
    return {
        "client, queueing, µs": 1e6 * queued["benchmark"] / count,
        "redis, queueing, µs": 1e6 * queued["redis"] / count,
        "redis, running, µs": 1e6 * ran["redis"] / left,
        "replica, running, µs": 1e6 * ran["replica"] / left,
        "GET /jobs, ms": page_ms,
        "bytes a job": bytes_each,
    }
