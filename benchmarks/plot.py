"""The figure: throughput and latency against the number of clients, one column for each workload."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.report import MARQ, Cell

COLOURS = {MARQ: "#2563eb", "torchserve": "#ea580c", "torchserve-quiet": "#a8a29e", "mosec": "#16a34a"}
LABELS = {
    MARQ: "marq",
    "torchserve": "TorchServe",
    "torchserve-quiet": "TorchServe, no request log",
    "mosec": "mosec",
}
COLUMN_INCHES, HEIGHT_INCHES, DPI = 3.6, 6.2, 150


def draw(cells: list[Cell], path: Path) -> None:
    """Writes the PNG; without a single good load there is nothing to draw."""
    good = [cell for cell in cells if cell.rps]
    workloads = list(dict.fromkeys(cell.workload for cell in good))
    if not workloads:
        return
    size = COLUMN_INCHES * len(workloads) + 0.8, HEIGHT_INCHES
    figure, axes = plt.subplots(2, len(workloads), figsize=size, squeeze=False, layout="constrained")
    for column, workload in enumerate(workloads):
        chosen = [cell for cell in good if cell.workload == workload]
        _draw_rates(axes[0][column], chosen)
        _draw_latencies(axes[1][column], chosen)
        axes[0][column].set_title(workload, fontsize=11, fontweight="bold")
    axes[0][0].set_ylabel("requests/s")
    axes[1][0].set_ylabel("latency, ms (log)")
    lines: dict[str, Any] = {}
    for axis in axes.flat:
        lines |= {line.get_label(): line for line in axis.get_lines() if not line.get_label().startswith("_")}
    figure.legend(lines.values(), lines.keys(), loc="outside upper center", ncols=len(lines), frameon=False)
    figure.savefig(path, dpi=DPI)
    plt.close(figure)


def _draw_rates(axis: Any, cells: list[Cell]) -> None:
    for server, found in _by_server(cells).items():
        clients, rates = [c.concurrency for c in found], [c.rps for c in found]
        axis.plot(clients, rates, marker="o", color=COLOURS[server], label=LABELS[server])
    axis.set_ylim(bottom=0)
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _finish(axis, cells)


def _draw_latencies(axis: Any, cells: list[Cell]) -> None:
    """p50 solid, p99 dashed."""
    for server, found in _by_server(cells).items():
        clients, colour = [c.concurrency for c in found], COLOURS[server]
        axis.plot(clients, [c.p50_ms for c in found], marker="o", color=colour)
        axis.plot(clients, [c.p99_ms for c in found], marker="o", mfc="white", ls="--", color=colour)
    axis.plot([], [], color="black", label="p50")
    axis.plot([], [], color="black", ls="--", label="p99")
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("clients at once")
    _finish(axis, cells)


def _finish(axis: Any, cells: list[Cell]) -> None:
    ticks = sorted({cell.concurrency for cell in cells})
    axis.set_xscale("log")
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(which="minor", bottom=False, left=False)
    axis.grid(visible=True, alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)


def _by_server(cells: list[Cell]) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (list(COLOURS).index(cell.server), cell.concurrency)):
        found.setdefault(cell.server, []).append(cell)
    return found
