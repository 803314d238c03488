"""Results: kept as JSON, summed up by medians, shown as tables."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

Results = dict[str, Any]
MARQ, TORCHSERVE, MOSEC = "marq", "torchserve", "mosec"
NOISE_CORES = 0.2  # a load during which strangers used more is counted as disturbed
FIGURES = ("rps", "p50_ms", "p99_ms", "cpu_ms_per_request")


@dataclass(frozen=True)
class Cell:
    """One server under one load: medians over the rounds."""

    workload: str
    concurrency: int
    server: str
    rps: float
    p50_ms: float
    p99_ms: float
    cpu_ms_per_request: float
    errors: int  # in all rounds together
    rounds: int
    problem: str


def cells(results: Results) -> list[Cell]:
    """In the order of the workloads, the clients and the servers."""
    groups: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for row in results["loads"]:
        groups.setdefault((row["workload"], row["concurrency"], row["server"]), []).append(row)
    workloads = results["settings"]["workloads"]
    return [
        _cell(key, groups[key]) for key in sorted(groups, key=lambda key: (workloads.index(key[0]), key[1:]))
    ]


def _cell(key: tuple[str, int, str], rows: list[dict[str, Any]]) -> Cell:
    good = [row for row in rows if not row["problem"]]
    figures = {name: _median([row[name] for row in good]) for name in FIGURES}
    problem = next((row["problem"] for row in rows if row["problem"]), "")
    errors = sum(row["errors"] for row in good)
    return Cell(*key, **figures, errors=errors, rounds=len(good), problem=problem)


def ratio(all_cells: list[Cell], cell: Cell, to: str = TORCHSERVE) -> float | None:
    """marq's rate to that of another server under this load; None unless both have one."""
    rates = {
        other.server: other.rps
        for other in all_cells
        if (other.workload, other.concurrency) == (cell.workload, cell.concurrency)
    }
    if cell.server != MARQ or not rates.get(to):
        return None
    return rates[MARQ] / rates[to]


def save(results: Results, path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


def load_table(results: Results) -> Table:
    """For the terminal."""
    table = Table(title="Side by side", title_justify="left")
    table.add_column("workload")
    table.add_column("clients", justify="right")
    table.add_column("server")
    for name in ("req/s", "p50 ms", "p99 ms", "errors", "marq/TorchServe", "marq/mosec"):
        table.add_column(name, justify="right")
    rows = list(_load_rows(results))
    for i, row in enumerate(rows):
        is_last = not any(following[:2] == row[:2] for following in rows[i + 1 : i + 2])
        style = "bold" if row[2] == MARQ else None
        table.add_row(*row[:6], *row[7:], style=style, end_section=is_last)
    return table


def markdown(results: Results) -> str:
    """The page that is kept."""
    settings, about = results["settings"], results["machine"]
    disturbed = [row.get("strangers_cores", 0) > NOISE_CORES for row in results["loads"]]
    versions = "; ".join(
        f"{name}: {', '.join(f'{k} {v}' for k, v in found.items())}"
        for name, found in about["versions"].items()
    )
    parts = [
        "# Benchmark",
        f"{about['date']}, {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB, "
        f"{about['system']}. "
        f"Load: {about['load generator']} on the same cores. Java: {about['java'] or 'none'}. {versions}.",
        f"Medians of {settings['rounds']} rounds of {settings['seconds']:g} s. In {sum(disturbed)} of "
        f"{len(disturbed)} loads other programs used more than {NOISE_CORES} cores.",
        "## Load",
        _markdown_table(
            "workload|clients|server|req/s|p50 ms|p99 ms|CPU ms/request|errors|marq/TorchServe|marq/mosec",
            _load_rows(results),
        ),
        "## Memory (PSS) and start",
        _markdown_table("workload|server|start s|server MB|replica MB", _memory_rows(results)),
    ]
    if results["jobs"]:
        parts += ["## Jobs", _markdown_table("measured|jobs|median", job_rows(results))]
    if found := problems(results):
        parts += ["## Problems", "\n".join(f"- {problem}" for problem in found)]
    return "\n\n".join(parts) + "\n"


def job_rows(results: Results) -> list[list[str]]:
    names = {
        "enqueue_per_s": "enqueued/s by one `Client.submit_many`",
        "drain_per_s": "drained/s by one no-op replica, batchSize 64",
        "scale_up_and_drain_s": "s from scaling 0 to 1 until the last is finished",
    }
    runs = [run for run in results["jobs"] if not run.get("problem")]
    return [
        [text, f"{runs[0]['jobs']:,}", _number(_median([run[key] for run in runs]))]
        for key, text in names.items()
        if runs
    ]


def memory_of(results: Results, server: str) -> float:
    """PSS in MB without replicas, median over all runs."""
    return _median([row["server_pss_mb"] for row in _measured(results) if row["server"] == server])


def problems(results: Results) -> list[str]:
    """Everything that went wrong, one line each."""
    rows = [*results["loads"], *results["memory"]]
    found = [
        f"{r['server']} {r['workload']}, round {r['round']}: {r['problem']}" for r in rows if r["problem"]
    ]
    found += [
        f"{r['server']} {r['workload']}: {r['killed']} killed" for r in _measured(results) if r["killed"]
    ]
    return found + [f"jobs: {run['problem']}" for run in results["jobs"] if run.get("problem")]


def _load_rows(results: Results) -> Iterator[list[str]]:
    found = cells(results)
    for cell in found:
        ratios = [ratio(found, cell, to) for to in (TORCHSERVE, MOSEC)]
        yield [
            cell.workload,
            str(cell.concurrency),
            cell.server,
            _number(cell.rps),
            _number(cell.p50_ms),
            _number(cell.p99_ms),
            _number(cell.cpu_ms_per_request),
            str(cell.errors),
            *(f"{times:.2f}x" if times else "" for times in ratios),
        ]


def _memory_rows(results: Results) -> Iterator[list[str]]:
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in _measured(results):
        groups.setdefault((row["workload"], row["server"]), []).append(row)
    for (workload, server), rows in groups.items():
        names = ("start_s", "server_pss_mb", "replica_pss_mb")
        yield [workload, server, *(_number(_median([row[name] for row in rows])) for name in names)]


def _measured(results: Results) -> list[dict[str, Any]]:
    return [row for row in results["memory"] if not row["problem"]]


def _median(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(median(known)) if known else 0.0


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _markdown_table(header: str, rows: Any) -> str:
    names = header.split("|")
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
