"""The comparison: servers in turn, never two at once, every load between two checks of the answers."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import load
from benchmarks.processes import Meter
from benchmarks.servers import SERVERS, WITHOUT, Server, ServerFailed
from benchmarks.workloads import Archives, Workload

WARMUP_CONNECTIONS = 8
Row = dict[str, Any]
OnRow = Callable[[str, Row], None]  # gets "loads" or "memory", and the measurements


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    venvs: dict[str, Path]  # server -> where it is installed
    workloads: list[Workload]
    concurrency: list[int]
    rounds: int
    seconds: float
    warmup_s: float | None  # None: each server's own
    large_concurrency: list[int] = field(default_factory=lambda: [1, 4, 8])  # of large bodies and answers

    def warmup_of(self, name: str) -> float:
        return SERVERS[name].warmup_s if self.warmup_s is None else self.warmup_s

    def concurrency_of(self, workload: Workload) -> list[int]:
        return self.large_concurrency if workload.is_large else self.concurrency

    def servers_of(self, workload: Workload) -> dict[str, Path]:
        """The servers that have the workload."""
        return {n: venv for n, venv in self.venvs.items() if workload.kind not in WITHOUT.get(n, ())}

    @property
    def total_loads(self) -> int:
        each = (len(self.servers_of(w)) * len(self.concurrency_of(w)) for w in self.workloads)
        return self.rounds * sum(each)

    @property
    def minutes(self) -> float:
        """About how long it takes."""
        one_s = [8 + self.warmup_of(name) + len(self.concurrency) * (self.seconds + 1) for name in self.venvs]
        return self.rounds * len(self.workloads) * sum(one_s) / 60


def run(plan: Plan, archives: Archives, generate: load.Generator, on_row: OnRow) -> None:
    """Reports each load, and the memory after the loads of each server."""
    for number in range(1, plan.rounds + 1):
        for workload in plan.workloads:
            for name, venv in plan.servers_of(workload).items():
                about = {"round": number, "workload": workload.name, "server": name}
                server = SERVERS[name](venv, archives, workload)
                for kind, row in _measure(plan, server, plan.concurrency_of(workload), generate):
                    on_row(kind, {**about, **row})


def _measure(
    plan: Plan, server: Server, concurrency: list[int], generate: load.Generator
) -> Iterator[tuple[str, Row]]:
    began = time.monotonic()
    try:
        with server:
            start_s = round(time.monotonic() - began, 2)
            if warmup_s := plan.warmup_of(server.name):
                generate(server.target, WARMUP_CONNECTIONS, warmup_s)
            for connections in concurrency:
                yield (
                    "loads",
                    {"concurrency": connections, **_checked_load(plan, server, generate, connections)},
                )
            memory = server.memory()
        yield "memory", {"start_s": start_s, **memory, "killed": server.killed, "problem": ""}
    except (ServerFailed, load.LoadFailed) as error:
        yield "memory", {"problem": str(error)}


def _checked_load(plan: Plan, server: Server, generate: load.Generator, connections: int) -> Row:
    """One load. `problem` is set where an answer before or after it was wrong: such a load has no figures."""
    if problem := load.verify(server.url, server.samples, server.token):
        return {"problem": f"before the load: {problem}"}
    meter = Meter(server.tree)
    result = generate(server.target, connections, plan.seconds)
    cpu_s, strangers = meter.read()
    if problem := load.verify(server.url, server.samples, server.token):
        return {"problem": f"after the load: {problem}"}
    return {
        "rps": round(result.rps, 1),
        "p50_ms": round(result.p50_ms, 3),
        "p99_ms": round(result.p99_ms, 3),
        "errors": result.errors,
        "cpu_ms_per_request": round(1000 * cpu_s / result.good, 4) if result.good else None,
        "strangers_cores": round(strangers, 2),
        "problem": "",
    }
