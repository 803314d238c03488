"""The metrics of one pool: the `[METRICS]` lines that its replicas print, and what the pool itself counts."""

import logging
import math
import re
from typing import NamedTuple

from marq.connections.commands import RedisClient
from marq.metrics import catalog, torchserve_logs
from marq.metrics import config as metrics_config
from marq.metrics.catalog import COUNTER, GAUGE, KINDS, RESERVED, Metric
from marq.metrics.measurements import FLUSH_EVERY_S, HOST, Labels, Measurements, Timer
from workers.launch import PoolSpec

log = logging.getLogger(__name__)

MARK = "[METRICS]"
FORMAT = f"{MARK}NAME.UNIT:VALUE|#DIMENSION:VALUE,...|#type:COUNTER|#hostname:HOST,UNIX_SECONDS"
LINE = re.compile(
    re.escape(MARK)
    + r"(?P<name>[\w\s]+)\.(?P<unit>[\w\s]+):(?P<value>[^|]+)\|#(?P<dimensions>[^|]*)"
    + r"(\|#type:(?P<kind>\w+))?\|#hostname:(?P<host>[^,|]+),(?P<when>\d+)(,(?P<ids>.*))?\s*"
)
OF_THE_REPLICA = ("QueueTime", "WorkerThreadTime")  # measured by marq, beside what handlers measure
MOST_SERIES = 2000  # of one pool: a handler that makes a series of each request must not fill Redis


class Line(NamedTuple):
    """One metric as a replica printed it; `kind` and `request_ids` may be empty."""

    name: str
    unit: str
    text: str
    value: float
    dimensions: dict[str, str]
    kind: str
    host: str
    when: str
    request_ids: str


def parse(line: str) -> Line | None:
    """The metric of a line; None if it has none. A number may have commas, as TorchServe allows."""
    found = LINE.fullmatch(line)
    if not found:
        return None
    try:
        value = float(found["value"].replace(",", ""))
    except ValueError:
        return None
    kind = (found["kind"] or "").lower()
    pairs = [pair.partition(":") for pair in found["dimensions"].split(",") if pair]
    if not math.isfinite(value) or not all(colon for _, colon, _ in pairs) or (kind and kind not in KINDS):
        return None
    dimensions = {name: value for name, _, value in pairs}
    return Line(
        found["name"].strip(), found["unit"].strip(), found["value"], value, dimensions, kind,
        found["host"], found["when"], found["ids"] or "",
    )  # fmt: skip


class HandlerMetrics:
    """Takes the lines of a pool's replicas; may be called by several threads."""

    def __init__(self, pool: PoolSpec) -> None:
        config = metrics_config.read(pool.metrics_config)
        self._model, self._mode, self._auto = pool.model, pool.metrics_mode, pool.metrics_auto_detect
        self._known, self._found = config.model, dict[str, Metric]()
        self._measurements = Measurements()
        self._server = torchserve_logs.ServerMetrics(
            config.ts, self._mode, pool.metrics_dir, self._measurements
        )
        self._log = None
        if self._mode != torchserve_logs.PROMETHEUS:
            self._log = torchserve_logs.ModelLog(pool.metrics_dir)
        self._series: set[tuple[Metric, Labels]] = set()
        self._told: set[str] = set()
        self._timer = Timer(FLUSH_EVERY_S)

    def accept(self, line: str) -> bool:
        """Keeps a metric, or drops one that is not configured; False for a line without one."""
        found = parse(line)
        if found is None:
            self._tell("format", f"a [METRICS] line is not written as {FORMAT}: {line[:200]}")
            return False
        if found.name in OF_THE_REPLICA and found.name not in self._known:
            self._server.add(found.name, found.value, *found.dimensions.values(), host=found.host)
        elif metric := self._metric(found):
            self._keep(metric, found)
        return True

    def restarted(self) -> None:
        """Counts a replica that ended by itself or was killed."""
        labels = self._model.name, self._model.version
        self._measurements.increment(catalog.REPLICA_RESTARTS, labels, model=self._model.name)

    def loaded(self, slot: int, seconds: float) -> None:
        """Notes how long a replica took until it was ready."""
        worker = f"W-{slot}-{self._model.name}_{self._model.version}"
        self._server.add("WorkerLoadTime", round(1000 * seconds), worker, "Host")

    def flush_if_due(self, client: RedisClient) -> None:
        """Stores new measurements, about once a second. Raises redis.RedisError."""
        if self._timer.is_due():
            self.flush(client)

    def flush(self, client: RedisClient) -> None:
        """Stores new measurements and writes the metrics log. Raises redis.RedisError."""
        self._server.write()
        self._measurements.flush(client)

    def _metric(self, line: Line) -> Metric | None:
        """The metric of a line. The name alone identifies a handler's metric, as in TorchServe."""
        metric = self._known.get(line.name) or self._found.get(line.name)
        if metric or not self._auto:
            return metric
        if line.name.startswith(RESERVED):
            self._tell(line.name, f"the metric {line.name} is dropped: names with {RESERVED} are marq's own")
            return None
        kind = line.kind or GAUGE
        text = metrics_config.HELP.format(kind=kind, unit=line.unit)
        self._found[line.name] = Metric(line.name, kind, tuple(line.dimensions), text, line.unit)
        return self._found[line.name]

    def _keep(self, metric: Metric, line: Line) -> None:
        labels = self._labels(metric, line)
        if labels is None:
            given = ", ".join(line.dimensions)
            wanted = ", ".join(metric.labels)
            self._tell(
                f"dimensions {metric.name}",
                f"the metric {metric.name} is dropped: it has the dimensions {given}, not {wanted}",
            )
        elif metric.kind == COUNTER and line.value < 0:
            self._tell(f"negative {metric.name}", f"the counter {metric.name} cannot go down by {line.value}")
        elif self._log:
            self._log.write(metric, line.text, labels, line.host, line.request_ids, line.when)
        elif self._has_room(metric, labels):
            hosted = Metric(metric.name, metric.kind, (*metric.labels, "Hostname"), metric.help, metric.unit)
            torchserve_logs.add(
                self._measurements, hosted, (*labels, line.host or HOST), line.value, self._model.name
            )

    def _labels(self, metric: Metric, line: Line) -> Labels | None:
        """The values of a metric's dimensions: by their names, or else by their places."""
        if line.dimensions.keys() >= set(metric.labels):
            return tuple(line.dimensions[name] for name in metric.labels)
        values = tuple(line.dimensions.values())
        return values if len(values) == len(metric.labels) else None

    def _has_room(self, metric: Metric, labels: Labels) -> bool:
        if (metric, labels) in self._series:
            return True
        if len(self._series) >= MOST_SERIES:
            self._tell("room", f"no more than {MOST_SERIES} series of metrics are kept; {metric.name} is not")
            return False
        self._series.add((metric, labels))
        return True

    def _tell(self, about: str, message: str) -> None:
        """Logs each warning once: replicas may print thousands of lines a second."""
        if about not in self._told:
            self._told.add(about)
            log.warning("%s (logged once)", message)
