"""`python -m benchmarks.beside_batch`: the latency of predictions while 50,000 jobs drain behind them.

The predictions come at random moments, at half of what the replica can answer, without the batch and with it.
"""

import argparse
import asyncio
import os
import random
import statistics
import sys
import time
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import Archives, Workload, pack

WORKLOAD = Workload("sleep", 8)
SHARE = 0.5
LINES = 50_000
WARMUP_S = 2.0


class NotMeasured(Exception):
    """Raised when an answer is wrong, or when the batch had ended before the predictions had."""


def measure(archives: Archives, seconds: float, rate: float) -> tuple[list[float], list[float]]:
    """Latencies in ms at `rate` predictions a second, without a batch and with one. Raises NotMeasured."""
    with Marq(MARQ_VENV, archives, WORKLOAD, job_queue_size=2 * LINES) as server:
        body = server.samples[0].body
        asyncio.run(_predictions(server, WARMUP_S, rate))
        alone = asyncio.run(_predictions(server, seconds, rate))
        content = b"\n".join(repeat(body, LINES))
        headers = {"content-type": "application/x-ndjson", "x-marq-priority": "low"}
        path = f"{server.inference}/jobs/{WORKLOAD.kind}:batch"
        sent = httpx.post(path, content=content, headers=headers, timeout=120)
        group = f"{server.inference}{sent.headers['location']}"
        beside = asyncio.run(_predictions(server, seconds, rate))
        counts = httpx.get(group, timeout=60).json()["counts"]
        if sent.status_code != 202 or not counts["queued"] or not counts["succeeded"]:
            raise NotMeasured(f"the batch did not drain meanwhile: {sent.status_code}, {counts}")
    return alone, beside


async def _predictions(server: Marq, seconds: float, rate: float) -> list[float]:
    """The latency of each, in ms; a late one does not keep the next from being sent."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client, asyncio.TaskGroup() as sending:
        tasks: list[asyncio.Task[float]] = []
        end = due = time.perf_counter()
        end += seconds
        while due < end:
            due += random.expovariate(rate)
            await asyncio.sleep(due - time.perf_counter())
            tasks.append(sending.create_task(_predict(client, server)))
    return [task.result() for task in tasks]


async def _predict(client: httpx.AsyncClient, server: Marq) -> float:
    sample = server.samples[0]
    headers = {"content-type": sample.content_type}
    began = time.perf_counter()
    answer = await client.post(server.url, content=sample.body, headers=headers)
    took_ms = 1000 * (time.perf_counter() - began)
    if problem := sample.problem(answer.status_code, answer.content):
        raise NotMeasured(problem)
    return took_ms


def _percentile(latencies: list[float], share: float) -> float:
    return sorted(latencies)[int(len(latencies) * share)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.beside_batch", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument(
        "--handler-ms", type=float, default=20.0, help="of a batch of up to 8; default: %(default)s"
    )
    options = parser.parse_args()
    os.environ["BENCH_SLEEP_MS"] = str(options.handler_ms)
    rate = SHARE * WORKLOAD.batch / options.handler_ms * 1000
    with TemporaryDirectory(prefix="benchmark-") as directory:
        archives = pack(Path(directory))
        found = [measure(archives, options.seconds, rate) for _ in range(options.rounds)]
    print(f"handler {options.handler_ms:g} ms, {rate:.0f} predictions/s; medians of rounds, in ms")
    for share in (0.5, 0.99):
        alone, beside = (
            statistics.median(_percentile(each, share) for each in some) for some in zip(*found, strict=True)
        )
        print(f"p{share:.0%}: {alone:.1f} alone, {beside:.1f} beside the batch: {beside / alone:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
