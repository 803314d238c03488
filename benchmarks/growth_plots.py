"""The tables and plots of growth."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt

TITLES = {
    "models": "registered models, idle server", "gateways": "gateway processes", "replicas": "replicas",
    "connections": "open connections", "backlog": "queued jobs", "bodies": "bytes of a body",
}  # fmt: skip
UNITS = {
    "/s": "1/s",
    "µs": "µs of CPU each",
    "% of a core": "% of a core",
    "MB": "MB",
    "ms": "ms",
    "bytes": "bytes",
}
Points = list[dict[str, float]]


def table(name: str, points: Points) -> str:
    """Markdown."""
    columns = [column for column in points[0] if column != "n"]
    head = [TITLES[name], *columns]
    rows = [[f"{point['n']:,}", *(f"{point[column]:,.1f}" for column in columns)] for point in points]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)) + "\n"


def write(results: dict[str, Any], out: Path) -> None:
    """`growth.md` and a plot for each series."""
    about = results["machine"]
    parts = [
        "# Cost as the work grows",
        f"{about['date']}, {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB. Made by "
        "`python -m benchmarks.growth`: CPU time for each request or job, of all processes of a role.",
    ]
    for name, points in results["series"].items():
        draw(name, points, out / f"{name}.svg")
        parts += [f"## {TITLES[name].capitalize()}", table(name, points), f"![{TITLES[name]}]({name}.svg)"]
    (out / "growth.md").write_text("\n\n".join(part.strip() for part in parts) + "\n")


def draw(name: str, points: Points, path: Path) -> None:
    """One panel for each unit."""
    columns = [column for column in points[0] if column not in ("n", "errors")]
    panels: dict[str, list[str]] = {}
    for column in columns:
        unit = next(text for key, text in UNITS.items() if key in column)
        panels.setdefault(unit, []).append(column)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.6 * len(panels), 3.0), squeeze=False, layout="constrained"
    )
    for axis, (unit, shown) in zip(axes[0], panels.items(), strict=True):
        for column in shown:
            values = [point[column] for point in points]
            axis.plot(
                [point["n"] for point in points],
                values,
                marker="o",
                label=column.rpartition(",")[0] or column,
            )
        if points[-1]["n"] >= 10 * points[0]["n"]:
            axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xlabel(TITLES[name])
        axis.set_ylabel(unit)
        axis.legend(frameon=False, fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
