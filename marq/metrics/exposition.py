"""Prometheus' text format. Written here because names must stay as configured: `prometheus_client` appends
`_total` to the names of counters, and TorchServe's counters have none."""

import re
from collections.abc import Container, Iterator
from dataclasses import dataclass, field

from prometheus_client import utils

from marq.metrics import config
from marq.metrics.catalog import DEFAULT_BUCKETS, GAUGE, HISTOGRAM, OWN, Metric
from marq.metrics.measurements import INFINITE, SUM, Labels, Series, bounds

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
ILLEGAL_IN_NAME, ILLEGAL_IN_LABEL = re.compile(r"[^a-zA-Z0-9_:]"), re.compile(r"[^a-zA-Z0-9_]")
Sample = tuple[str, str, float]  # name, labels as text, value


@dataclass
class Family:
    """All series of one name."""

    kind: str
    help: str
    values: dict[str, float] = field(default_factory=dict)  # labels as text -> value
    written: dict[str, float] = field(default_factory=dict)  # of a gauge: when
    histograms: dict[str, dict[str, float]] = field(default_factory=dict)  # labels -> bucket or SUM -> value


class Families:
    """Collects series of many processes; counters and histograms of the same labels are added up."""

    def __init__(self) -> None:
        self._families: dict[str, Family] = {}

    def add(self, series: Series, stored: bytes) -> None:
        """Adds a field of a hash of metrics; of a gauge only the newest value counts."""
        family = self._family(series.name, series.kind, series.unit)
        if family is None:
            return
        labels = _labels(series.labels, series.values)
        if family.kind == HISTOGRAM:
            parts = family.histograms.setdefault(labels, {})
            parts[series.part] = parts.get(series.part, 0.0) + float(stored)
        elif family.kind == GAUGE:
            value, _, when = stored.partition(b" ")
            if float(when) >= family.written.get(labels, 0.0):
                family.values[labels], family.written[labels] = float(value), float(when)
        else:
            family.values[labels] = family.values.get(labels, 0.0) + float(stored)

    def put(self, metric: Metric, values: Labels, value: float) -> None:
        """Adds a value of marq's own that is not in a hash to a counter or gauge."""
        if family := self._family(metric.name, metric.kind, ""):
            labels = _labels(metric.labels, values)
            family.values[labels] = family.values.get(labels, 0.0) + value

    def text(self, names: Container[str] = ()) -> str:
        """The exposition; `names`: of these samples only."""
        lines: list[str] = []
        for name, family in sorted(self._families.items()):
            samples = [sample for sample in _samples(name, family) if not names or sample[0] in names]
            if samples:
                lines.append(f"# HELP {name} {_escape(family.help)}")
                lines.append(f"# TYPE {name} {family.kind}")
                lines += [f"{sample}{labels} {_number(value)}" for sample, labels, value in samples]
        return "".join(f"{line}\n" for line in lines)

    def _family(self, name: str, kind: str, unit: str) -> Family | None:
        """None where the name has another type already: Prometheus would refuse the whole page."""
        legal = _legal(name, ILLEGAL_IN_NAME)
        known = OWN[name].help if name in OWN else config.HELP.format(kind=kind, unit=unit)
        family = self._families.setdefault(legal, Family(kind, known))
        return family if family.kind == kind else None


def _samples(name: str, family: Family) -> Iterator[Sample]:
    for labels, value in sorted(family.values.items()):
        yield name, labels, value
    for labels, parts in sorted(family.histograms.items()):
        yield from _histogram(name, labels, parts)


def _histogram(name: str, labels: str, parts: dict[str, float]) -> Iterator[Sample]:
    known = OWN[name].buckets if name in OWN else DEFAULT_BUCKETS
    all_bounds = sorted({*bounds(known), *parts} - {SUM}, key=float)
    count = 0.0
    for bound in all_bounds:
        count += parts.get(bound, 0.0)
        shown = bound if bound == INFINITE else _number(float(bound))
        yield f"{name}_bucket", _with(labels, "le", shown), count
    yield f"{name}_count", labels, count
    yield f"{name}_sum", labels, parts.get(SUM, 0.0)


def _labels(names: Labels, values: Labels) -> str:
    """`{a="b",}`: with a comma at the end, as TorchServe writes it and scripts expect it."""
    legal = {_legal(name, ILLEGAL_IN_LABEL): value for name, value in zip(names, values, strict=True)}
    pairs = "".join(f'{name}="{_escape_value(value)}",' for name, value in legal.items())
    return f"{{{pairs}}}" if pairs else ""


def _with(labels: str, name: str, value: str) -> str:
    return f'{labels[:-1] or "{"}{name}="{value}",}}'


def _number(value: float) -> str:
    return str(utils.floatToGoString(value))  # type: ignore[no-untyped-call]


def _legal(name: str, illegal: re.Pattern[str]) -> str:
    made = illegal.sub("_", name)
    return f"_{made}" if made[:1].isdigit() else made


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_value(text: str) -> str:
    return _escape(text).replace('"', r"\"")
