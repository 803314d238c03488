"""The cost of tokens, metrics and the access log: `python -m benchmarks.features`."""

import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import load, rounds, workloads
from benchmarks.servers import MARQ_VENV, BareMarq, FullMarq
from benchmarks.workloads import Workload

LEAST_SHARE = 0.85
PLAN = rounds.Plan(
    venvs={BareMarq.name: MARQ_VENV, FullMarq.name: MARQ_VENV},
    workloads=[Workload.parse("noop32"), Workload.parse("noop1")],
    concurrency=[8, 64],
    rounds=3,
    seconds=4,
    warmup_s=None,
)


def main() -> int:
    """Prints medians of requests/s with all three off and on; 1 if the share kept is too small."""
    rows: list[dict[str, Any]] = []

    def keep(kind: str, row: dict[str, Any]) -> None:
        if row.get("problem"):
            sys.exit(f"{row['server']} {row['workload']}: {row['problem']}")
        if kind == "loads":
            rows.append(row)

    with TemporaryDirectory(prefix="benchmark-") as directory:
        rounds.run(PLAN, workloads.pack(Path(directory)), load.generator()[1], keep)
    print("Requests/s with tokens, metrics and access log off and on, and the share that is kept:")
    shares = []
    for workload in PLAN.workloads:
        for clients in PLAN.concurrency:
            off, on = (_median(rows, name, workload.name, clients) for name in PLAN.venvs)
            shares.append(on / off)
            print(f"  {workload.name:<7} {clients:>3} clients  {off:>9,.0f} {on:>9,.0f}  {on / off:.0%}")
    return int(median(shares) < LEAST_SHARE)


def _median(rows: list[dict[str, Any]], server: str, workload: str, clients: int) -> float:
    return median(
        row["rps"]
        for row in rows
        if (row["server"], row["workload"], row["concurrency"]) == (server, workload, clients)
    )


if __name__ == "__main__":
    sys.exit(main())
