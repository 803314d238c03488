"""The figures and the histogram of a load test."""

from dataclasses import dataclass, field

from rich import box
from rich.console import Group
from rich.table import Table

PERCENTILES = (50, 90, 95, 99)
BARS = 12
BAR_WIDTH = 50


@dataclass
class Measured:
    """Latencies of answered requests in seconds; failed requests by the text of their error."""

    latencies: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    duration_s: float = 0.0

    @property
    def throughput(self) -> float:
        """Answered requests per second."""
        return len(self.latencies) / self.duration_s

    def latencies_ms(self) -> dict[str, float]:
        """Percentiles and the maximum; at least one request must be answered."""
        ordered = sorted(self.latencies)
        places = {f"p{percent}": len(ordered) * percent // 100 for percent in PERCENTILES}
        places["max"] = len(ordered) - 1
        return {name: round(ordered[min(at, len(ordered) - 1)] * 1000, 3) for name, at in places.items()}

    def summary(self) -> dict[str, object]:
        """The figures for machines."""
        return {
            "answered": len(self.latencies),
            "failed": sum(self.failures.values()),
            "duration_s": round(self.duration_s, 3),
            "requests_per_second": round(self.throughput, 1),
            "latency_ms": self.latencies_ms(),
            "failures": self.failures,
        }


def picture(measured: Measured) -> Group:
    """A line of figures and the histogram, for a console."""
    figures = "  ".join(f"{name} {value:g} ms" for name, value in measured.latencies_ms().items())
    head = f"{len(measured.latencies)} answers in {measured.duration_s:.1f} s"
    return Group(f"{head}: {measured.throughput:.1f} requests/s", figures, _histogram(measured.latencies))


def _histogram(latencies: list[float]) -> Table:
    least, most = min(latencies), max(latencies)
    step = (most - least) / BARS or 1.0
    counts = [0] * BARS
    for latency in latencies:
        counts[min(BARS - 1, int((latency - least) / step))] += 1
    table = Table("from ms", "answers", "", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for index, count in enumerate(counts):
        bar = "█" * round(count * BAR_WIDTH / max(counts)) or ("▏" if count else "")
        table.add_row(f"{(least + index * step) * 1000:.1f}", str(count), bar)
    return table
