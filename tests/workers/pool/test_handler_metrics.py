import re

import pytest

from marq import keys
from marq.metrics import config as metrics_config
from marq.metrics.measurements import HOST, Series
from workers.pool import handler_metrics
from workers.pool.handler_metrics import HandlerMetrics, parse

TAIL = "|#hostname:host,1700000000"
CONFIG = """
model_metrics:
  counter:
    - {name: Frames, unit: count, dimensions: [Camera, ModelName]}
  gauge:
    - {name: Speed, unit: ms, dimensions: [ModelName]}
  histogram:
    - {name: Size, unit: bytes, dimensions: []}
"""


@pytest.fixture
def make(make_pool, register, tmp_path):
    """The metrics of a pool: make(metrics_mode="log")."""

    def make(**settings) -> HandlerMetrics:
        config = tmp_path / "metrics.yaml"
        config.write_text(CONFIG)
        given = {"metrics_config": str(config), "metrics_mode": "prometheus", **settings}
        return HandlerMetrics(make_pool(register(), **given))

    return make


@pytest.fixture
def stored(client):
    """What is in Redis after a flush: {(name, kind, labels): value}; of histograms their count and sum."""

    def read(metrics: HandlerMetrics) -> dict[tuple[str, str, tuple[tuple[str, str], ...]], float]:
        metrics.flush(client)
        found: dict[tuple[str, str, tuple[tuple[str, str], ...]], float] = {}
        sources = [keys.model_metrics("m").encode(), *client.zrange(keys.METRICS, 0, -1)]
        for field, value in [item for source in sources for item in client.hgetall(source).items()]:
            series = Series.read(field)
            kind = f"{series.kind}{' sum' if series.part == 'sum' else ''}"
            key = series.name, kind, tuple(zip(series.labels, series.values, strict=True))
            found[key] = found.get(key, 0.0) + float(value.split()[0])
        return found

    return read


def test_a_line_of_the_contract_is_understood_in_all_its_parts():
    found = parse(
        "[METRICS]Two words.Milliseconds:1,234.5|#A:x:y,B:|#type:GAUGE|#hostname:h-1,1700000000,id1,id2"
    )
    assert found == handler_metrics.Line(
        "Two words", "Milliseconds", "1,234.5", 1234.5, {"A": "x:y", "B": ""}, "gauge", "h-1", "1700000000",
        "id1,id2",
    )  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "[METRICS]",
        "[METRICS]Failed to update metric with name:n and dimensions: d with value: 1: reason",
        f"[METRICS]n.Count:many|#|#type:COUNTER{TAIL}",
        f"[METRICS]n.Count:nan|#|#type:GAUGE{TAIL}",
        f"[METRICS]n.Count:inf|#|#type:COUNTER{TAIL}",
        f"[METRICS]n.Count:1|#no colon|#type:COUNTER{TAIL}",
        f"[METRICS]n.Count:1|#|#type:TIMER{TAIL}",
        "[METRICS]n.Count:1|#|#type:COUNTER|#hostname:host,soon",
        f"[METRICS]n-1.Count:1|#|#type:COUNTER{TAIL}",
        f"[METRICS]n:1|#|#type:COUNTER{TAIL}",
        "[METRICS]" + "n." * 20_000,
    ],
)
def test_a_line_that_is_no_metric_is_left_to_the_log_and_told_once(make, caplog, line):
    metrics = make()
    assert not metrics.accept(line)
    assert not metrics.accept(line)
    assert len([record for record in caplog.records if "is not written as [METRICS]" in record.message]) == 1


def test_listed_metrics_are_kept_in_the_way_of_their_type_in_the_file(make, stored):
    metrics = make()
    for number in (2, 3):
        assert metrics.accept(f"[METRICS]Frames.Count:{number}|#Camera:left,ModelName:m|#type:GAUGE{TAIL},id")
        assert metrics.accept(f"[METRICS]Speed.Milliseconds:{number}|#ModelName:m|#type:GAUGE{TAIL}")
        assert metrics.accept(f"[METRICS]Size.Bytes:{number}|#|#type:HISTOGRAM{TAIL}")
    assert stored(metrics) == {
        ("Frames", "counter", (("Camera", "left"), ("ModelName", "m"), ("Hostname", "host"))): 5,
        ("Speed", "gauge", (("ModelName", "m"), ("Hostname", "host"))): 3,
        ("Size", "histogram", (("Hostname", "host"),)): 2,
        ("Size", "histogram sum", (("Hostname", "host"),)): 5,
    }


def test_dimensions_are_matched_by_name_or_else_by_place(make, stored):
    metrics = make()
    metrics.accept(f"[METRICS]Frames.Count:1|#ModelName:m,Level:Model,Camera:left|#type:COUNTER{TAIL}")
    metrics.accept(f"[METRICS]Frames.Count:1|#Where:left,What:m|#type:COUNTER{TAIL}")
    assert list(stored(metrics).values()) == [2]


def test_dimensions_that_do_not_fit_and_counters_that_go_down_are_told_and_dropped(make, stored, caplog):
    metrics = make()
    assert metrics.accept(f"[METRICS]Frames.Count:1|#Camera:left|#type:COUNTER{TAIL}")
    assert metrics.accept(f"[METRICS]Frames.Count:-1|#Camera:left,ModelName:m|#type:COUNTER{TAIL}")
    assert stored(metrics) == {}
    assert "the metric Frames is dropped: it has the dimensions Camera, not Camera, ModelName" in caplog.text
    assert "the counter Frames cannot go down by -1.0" in caplog.text


def test_metrics_that_are_not_listed_are_dropped_unless_they_are_to_be_detected(make, stored, caplog):
    line = f"[METRICS]New.Seconds:0.5|#A:b|#type:HISTOGRAM{TAIL}"
    dropping, keeping = make(), make(metrics_auto_detect=True)
    assert dropping.accept(line)
    assert stored(dropping) == {}
    keeping.accept(line)
    keeping.accept(f"[METRICS]Untyped.Count:7|#A:b{TAIL}")
    keeping.accept(f"[METRICS]marq_queue_depth.Count:7|#A:b|#type:GAUGE{TAIL}")
    assert stored(keeping) == {
        ("New", "histogram", (("A", "b"), ("Hostname", "host"))): 1,
        ("New", "histogram sum", (("A", "b"), ("Hostname", "host"))): 0.5,
        ("Untyped", "gauge", (("A", "b"), ("Hostname", "host"))): 7,
    }
    assert "names with marq_ are marq's own" in caplog.text


def test_a_handler_cannot_fill_redis_with_series(make, stored, caplog, monkeypatch):
    monkeypatch.setattr(handler_metrics, "MOST_SERIES", 3)
    metrics = make()
    for number in (*range(5), 0):
        metrics.accept(f"[METRICS]Frames.Count:1|#Camera:{number},ModelName:m|#type:COUNTER{TAIL}")
    assert sorted(stored(metrics).values()) == [1, 1, 2]
    assert "no more than 3 series" in caplog.text


@pytest.mark.parametrize("mode", ["log", "legacy"])
def test_in_log_mode_lines_go_to_the_log_with_their_request_ids(make, stored, tmp_path, mode):
    metrics = make(metrics_mode=mode)
    metrics.accept(f"[METRICS]Speed.Milliseconds:1.25|#ModelName:m|#type:GAUGE{TAIL},id1,id2")
    metrics.accept(f"[METRICS]Size.Bytes:7|#|#type:HISTOGRAM{TAIL}")
    lines = (tmp_path / "model_metrics.log").read_text().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d,\d{3} - ", "", line) for line in lines] == [
        "Speed.ms:1.25|#ModelName:m|#hostname:host,requestID:id1,id2,timestamp:1700000000",
        "Size.bytes:7|#|#hostname:host,timestamp:1700000000",
    ]
    assert stored(metrics) == {}


def test_what_replicas_measure_themselves_are_metrics_of_the_server(make, stored, tmp_path):
    shown = make(metrics_config="")
    shown.accept(f"[METRICS]QueueTime.Milliseconds:3|#Level:Host|#type:GAUGE{TAIL}")
    shown.loaded(1, 2.5)
    assert stored(shown) == {
        ("QueueTime", "gauge", (("Level", "Host"), ("Hostname", "host"))): 3,
        (
            "WorkerLoadTime",
            "gauge",
            (("WorkerName", "W-1-m_1.0"), ("Level", "Host"), ("Hostname", HOST)),
        ): 2500,
    }
    logged = make(metrics_config="", metrics_mode="log")
    logged.accept(f"[METRICS]QueueTime.Milliseconds:4|#Level:Host|#type:GAUGE{TAIL}")
    stored(logged)
    assert (
        " - QueueTime.Milliseconds:4.0|#Level:Host|#hostname:host,timestamp:"
        in (tmp_path / "ts_metrics.log").read_text()
    )


def test_restarts_are_counted(make, stored):
    metrics = make()
    metrics.restarted()
    metrics.restarted()
    labels = (("model", "m"), ("version", "1.0"))
    assert stored(metrics) == {("marq_replica_restarts_total", "counter", labels): 2}


def test_the_servers_own_metrics_all_have_a_description():
    config = metrics_config.read()
    assert all(metric.unit and metric.help for metric in (*config.ts.values(), *config.model.values()))
