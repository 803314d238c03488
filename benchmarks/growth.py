"""`python -m benchmarks.growth`: what a request, a job and an idle server cost as the work grows.

Writes a table for each series (`growth.md`), the figures (`growth.json`) and a plot for each (`*.svg`). The
figures are CPU times and memory: they hold on a machine with few cores, too.
"""

import argparse
import json
import random
import resource
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import growth_models, growth_plots, load, machine
from benchmarks.growth_jobs import backlog
from benchmarks.processes import Roles, pss_mb, role_of
from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import Archives, Sample, Workload, pack

OUT = Path(__file__).resolve().parents[1] / "docs" / "growth"
WARMUP_S = 3.0
CONNECTIONS = 64
FILES_BESIDE = 500  # files that a process has open beside its connections
Point = dict[str, float]


class Growth:
    """Measures the points of the series of predictions."""

    def __init__(self, archives: Archives, seconds: float) -> None:
        self._archives, self._seconds = archives, seconds
        self._generate = load.generator()[1]

    def gateways(self, count: int) -> Point:
        """Gateway processes, at 64 connections."""
        return self._load(Workload("noop", 32), CONNECTIONS, {"gateway_workers": str(count)})

    def replicas(self, count: int) -> Point:
        """Replicas of the model, at 64 connections."""
        return self._load(Workload("noop", 32), CONNECTIONS, replicas=count)

    def connections(self, count: int) -> Point:
        """Open connections, each of which waits for its answer before it sends again."""
        queue = {"job_queue_size": str(2 * count + 100), "max_connections": str(2 * count + 100)}
        return self._load(Workload("noop", 32), count, queue)

    def body_bytes(self, size: int) -> Point:
        """Bytes of a body, at 4 connections; the handler reads each one."""
        body = random.Random(0).randbytes(size)
        sample = Sample(body, f"{size} {zlib.crc32(body):08x}", "application/octet-stream")
        return self._load(Workload("thumb", 1), 4, {"max_request_size": str(2 * size + 10**6)}, sample=sample)

    def _load(
        self,
        workload: Workload,
        connections: int,
        settings: dict[str, str] | None = None,
        replicas: int = 1,
        sample: Sample | None = None,
    ) -> Point:
        with Marq(MARQ_VENV, self._archives, workload, extra=settings, replicas=replicas) as server:
            target = server.target
            if sample:
                target = load.Target(target.url, sample)
            self._generate(target, min(8, connections), WARMUP_S)
            roles = Roles(server.tree)
            found = self._generate(target, connections, self._seconds)
            used = roles.read()
            if not found.good:
                raise load.LoadFailed(f"{workload.name} with {connections} connections had no good answer")
            gateways = pss_mb(server.tree.processes(), lambda process: role_of(process) == "gateway")
        each = {f"{role}, µs": 1e6 * used[role] / found.good for role in ("gateway", "redis", "replica")}
        return {**each, "errors": found.errors, "gateways, MB": gateways}


def main() -> int:
    options = _options()
    _allow_files(max(options.connections) + FILES_BESIDE)
    with TemporaryDirectory(prefix="benchmark-") as directory:
        archives = pack(Path(directory))
        growth = Growth(archives, options.seconds)
        series: dict[str, Callable[[int], Point]] = {
            "models": lambda count: growth_models.measure(count, options.seconds),
            "gateways": growth.gateways,
            "replicas": growth.replicas,
            "connections": growth.connections,
            "backlog": lambda count: backlog(archives, count),
            "bodies": growth.body_bytes,
        }
        options.out.mkdir(parents=True, exist_ok=True)
        about = machine.describe({"marq": MARQ_VENV}, "", load.generator()[0])
        kept = options.out / "growth.json"
        results = json.loads(kept.read_text()) if kept.exists() else {"series": {}}
        results["machine"] = about
        for name in options.series:
            points = [{"n": n, **series[name](n)} for n in getattr(options, name)]
            results["series"][name] = points
            kept.write_text(json.dumps(results, indent=1) + "\n")
            print(growth_plots.table(name, points), flush=True)
    growth_plots.write(results, options.out)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    sizes = {
        "models": "1,10,100,1000", "gateways": "1,2,3,4", "replicas": "1,2,3,4",
        "connections": "1,10,100,1000,10000", "backlog": "10,10000,1000000",
        "bodies": "100,1000,10000,100000,1000000,6000000",
    }  # fmt: skip
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=_numbers, default=default, help="default: %(default)s")
    parser.add_argument(
        "--series", type=lambda text: text.split(","), default=",".join(sizes),
        help="those to measure; the others keep their figures; default: all",
    )  # fmt: skip
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load; default: %(default)s")
    parser.add_argument("--out", type=Path, default=OUT, help="default: docs/growth")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _allow_files(wanted: int) -> None:
    """Raises the limit of open files, which the servers inherit, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    sys.exit(main())
