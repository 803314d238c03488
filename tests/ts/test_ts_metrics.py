import copy
import io
import json
import logging
import re

import pytest

from ts.metrics.caching_metric import HOSTNAME
from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric
from ts.metrics.metric_cache_errors import (
    MetricsCacheIOError,
    MetricsCacheKeyError,
    MetricsCacheTypeError,
    MetricsCacheValueError,
)
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.metrics.metric_encoder import MetricEncoder
from ts.metrics.metric_type_enum import MetricTypes
from ts.metrics.metrics_store import MetricsStore
from ts.metrics.process_memory_metric import check_process_mem_usage


@pytest.fixture
def metrics():
    cache = MetricsCacheYamlImpl()
    cache.model_name = "mnist"
    cache.set_request_ids({0: "a", 1: "b"})
    return cache


@pytest.fixture
def lines(caplog):
    """The lines written since the last call, with the clock taken out."""
    caplog.set_level(logging.INFO)

    def read():
        texts = [re.sub(r",\d{10}", ",NOW", record.getMessage()) for record in caplog.records]
        caplog.clear()
        return [text.replace(f"hostname:{HOSTNAME}", "hostname:HOST") for text in texts]

    return read


def test_a_time_is_one_line_with_all_request_ids(metrics, lines):
    metrics.add_time("HandlerTime", 1.25, None, "ms")
    assert lines() == [
        "[METRICS]HandlerTime.Milliseconds:1.25|#ModelName:mnist,Level:Model"
        "|#type:GAUGE|#hostname:HOST,NOW,a,b"
    ]


def test_an_index_picks_one_request_and_an_unknown_one_picks_all(metrics, lines):
    metrics.add_counter("Calls", 3, 1)
    metrics.add_counter("Calls", 3, "no-such-request")
    assert [line.partition("NOW")[2] for line in lines()] == [",b", ",a,b"]


@pytest.mark.parametrize(
    ("emit", "expected"),
    [
        (lambda m: m.add_counter("n", 2), "n.Count:2|#ModelName:mnist,Level:Model|#type:COUNTER|"),
        (lambda m: m.add_percent("n", 50), "n.Percent:50|#ModelName:mnist,Level:Model|#type:GAUGE|"),
        (lambda m: m.add_size("n", 5), "n.Megabytes:5|#ModelName:mnist,Level:Model|#type:GAUGE|"),
        (lambda m: m.add_size("n", 5, unit="kB"), "n.Kilobytes:5|#ModelName:mnist,Level:Model|#type:GAUGE|"),
        (lambda m: m.add_time("n", 5, unit="s"), "n.Seconds:5|#ModelName:mnist,Level:Model|#type:GAUGE|"),
        (lambda m: m.add_error("n", 1), "n.unit:1|#Level:Error|#type:COUNTER|"),
        (
            lambda m: m.add_metric("n", 7, "frames", metric_type=MetricTypes.HISTOGRAM),
            "n.frames:7|#ModelName:mnist,Level:Model|#type:HISTOGRAM|",
        ),
    ],
)
def test_every_verb_has_its_unit_and_type(metrics, lines, emit, expected):
    emit(metrics)
    assert lines()[0].startswith(f"[METRICS]{expected}")


def test_dimensions_of_the_caller_come_first(metrics, lines):
    own = [Dimension("Size", "large")]
    metrics.add_counter("Calls", 1, 0, own)
    assert "|#Size:large,ModelName:mnist,Level:Model|" in lines()[0]
    assert [str(dimension) for dimension in own] == ["Size:large", "ModelName:mnist", "Level:Model"]


def test_default_dimensions_do_not_leak_between_models(lines):
    for name in ("first", "second"):
        cache = MetricsCacheYamlImpl()
        cache.model_name = name
        cache.add_counter("Calls", 1)
    assert ["ModelName:first" in line for line in lines()] == [True, False]


def test_metrics_emitted_while_loading_carry_the_one_id_of_the_load(metrics, lines):
    metrics.set_request_ids("load-id")
    metrics.add_counter("Loaded", 1)
    metrics.add_counter("Loaded", 1, 0)
    assert all(line.endswith("NOW,load-id") for line in lines())


def test_a_negative_counter_is_logged_and_never_raised(metrics, lines):
    metrics.add_counter("Calls", -3)
    assert lines() == [
        "[METRICS]Failed to update metric with name:Calls and dimensions: ModelName:mnist,Level:Model "
        "with value: -3: Counter metric update value cannot be negative"
    ]


def test_wrong_dimensions_are_logged_and_never_raised(metrics, lines):
    metrics.add_metric_to_cache("Calls", "count", ["Size"])
    metrics.add_counter("Calls", 1)
    assert "with value: 1: Dimension values: ['mnist', 'Model'] should correspond to" in lines()[0]


def test_a_registered_metric_can_be_found_and_written(metrics, lines):
    metrics.add_metric_to_cache("Depth", "count", ["Queue"], MetricTypes.GAUGE)
    metrics.get_metric("Depth", MetricTypes.GAUGE).add_or_update(2.5, ["jobs"], "id")
    assert lines() == ["[METRICS]Depth.Count:2.5|#Queue:jobs|#type:GAUGE|#hostname:HOST,NOW,id"]


def test_the_legacy_update_replaces_the_dimension_names(metrics, lines):
    metric = metrics.add_metric_to_cache("Depth", "count", ["Queue"])
    metric.update(1, "id", [Dimension("Other", "x")])
    assert lines()[-1] == "[METRICS]Depth.Count:1|#Other:x|#type:COUNTER|#hostname:HOST,NOW,id"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, "ms"), "`metric_name` must be a str"),
        (("n", 5), "`unit` must be a str"),
        (("n", "ms", "dims"), "`dimension_names` should be a list of dimension name strings"),
        (("n", "ms", [], "gauge"), "`metric_type` must be a MetricTypes enum"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused(metrics, arguments, message):
    with pytest.raises(MetricsCacheTypeError, match=re.escape(message)):
        metrics.add_metric_to_cache(*arguments)


def test_unknown_units_and_metrics_are_refused(metrics):
    with pytest.raises(MetricsCacheValueError, match="timed metric should be one of"):
        metrics.add_time("n", 1, unit="minutes")
    with pytest.raises(ValueError, match="size based metric"):
        metrics.add_size("n", 1, unit="TB")
    with pytest.raises(MetricsCacheKeyError, match=r"Metric of type 'MetricTypes.COUNTER' and name 'n'"):
        metrics.get_metric("n")


def test_without_a_file_there_are_the_two_metrics_of_every_model(metrics):
    assert metrics.cache_keys() == ["gauge:HandlerTime", "gauge:PredictionTime"]


def test_a_file_lists_the_metrics_of_a_model(tmp_path):
    path = tmp_path / "metrics.yaml"
    path.write_text(
        "dimensions:\n  - &model ModelName\n"
        "model_metrics:\n  counter:\n    - {name: Calls, unit: count, dimensions: [*model]}\n"
    )
    cache = MetricsCacheYamlImpl(str(path))
    cache.initialize_cache()
    assert cache.cache_keys() == ["counter:Calls"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a: 1", MetricsCacheKeyError, "'model_metrics' key not found in yaml file"),
        ("model_metrics:", MetricsCacheValueError, "Missing `model_metrics` specification"),
        ("model_metrics: {foo: []}", MetricsCacheKeyError, "Invalid metric type"),
        ("model_metrics: {gauge: [{unit: ms}]}", MetricsCacheKeyError, "Key not found in cache spec"),
    ],
)
def test_a_bad_specification_says_what_is_wrong(tmp_path, text, error, message):
    path = tmp_path / "metrics.yaml"
    path.write_text(text)
    with pytest.raises(error, match=message):
        MetricsCacheYamlImpl(str(path)).initialize_cache()


def test_a_missing_specification_is_an_io_error():
    with pytest.raises(MetricsCacheIOError):
        MetricsCacheYamlImpl("/no/such/metrics.yaml")


def test_a_deep_copy_has_its_own_request_ids_and_shares_the_metrics(metrics):
    twin = copy.deepcopy(metrics)
    twin.set_request_ids({0: "z"})
    twin.add_metric_to_cache("Late", "count")
    assert metrics.request_ids == {0: "a", 1: "b"}
    assert metrics.get_metric("Late") is twin.get_metric("Late")


def test_a_raised_log_level_silences_metrics(metrics, caplog):
    caplog.set_level(logging.ERROR)
    metrics.add_counter("Calls", 1)
    assert caplog.records == []


def test_the_older_metric_adds_up_and_prints_without_a_type():
    metric = Metric("n", 2, "ms", [Dimension("a", "b")], "id", "counter")
    metric.update(3)
    assert re.fullmatch(rf"n\.Milliseconds:5\|#a:b\|#hostname:{HOSTNAME},\d+,id", str(metric))
    metric.reset()
    encoded = json.loads(json.dumps([metric], cls=MetricEncoder))[0]
    assert encoded["Value"] == 0
    assert encoded["Dimensions"] == [{"Name": "a", "Value": "b"}]


def test_the_older_store_keeps_the_dimensions_of_every_verb():
    store = MetricsStore({0: "a"}, "mnist")
    own = [Dimension("Size", "large")]
    store.add_counter("c", 1, 0, own)
    store.add_counter("c", 1, 0, own)
    store.add_time("t", 1, dimensions=own)
    store.add_size("s", 1, dimensions=own)
    store.add_percent("p", 1, dimensions=own)
    store.add_error("e", "boom", own)
    assert [metric.value for metric in store.store] == [2, 1, 1, 1, "boom"]
    assert all(str(metric.dimensions[0]) == "Size:large" for metric in store.store)


def test_memory_of_processes_is_logged_for_ids_from_a_stream(caplog):
    caplog.set_level(logging.INFO)
    check_process_mem_usage(io.StringIO("1,999999999\n"))
    assert re.fullmatch(r"1:\d+ 999999999:0", " ".join(record.getMessage() for record in caplog.records))
