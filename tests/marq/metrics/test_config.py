import pytest

from marq.metrics import config as metrics_config
from marq.metrics.config import DIMENSIONS, MetricsConfigError, read
from marq.settings.loading import load
from marq.settings.properties import SettingsError

FILE = """
dimensions:
  - &model "ModelName"
ts_metrics:
  counter:
    - {name: Requests2XX, unit: Count, dimensions: [Level, Host]}
model_metrics:
  histogram:
    - {name: Size, unit: bytes, dimensions: [*model, Level]}
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str):
        path = tmp_path / "metrics.yaml"
        path.write_text(text)
        return path

    return write


def test_the_default_file_lists_all_metrics_of_torchserve():
    config = read()
    assert set(config.ts) == set(DIMENSIONS)
    assert {name: metric.labels for name, metric in config.model.items()} == {
        "HandlerTime": ("ModelName", "Level"),
        "PredictionTime": ("ModelName", "Level"),
    }
    assert config.ts["Requests2XX"].help == "Torchserve prometheus counter metric with unit: Count"
    assert config.ts["ts_queue_latency_microseconds"].labels == ("model_name", "model_version", "hostname")


def test_a_file_of_ones_own_is_read(write):
    config = read(write(FILE))
    assert config.ts["Requests2XX"].labels == ("Level", "Host")
    assert (config.model["Size"].kind, config.model["Size"].unit) == ("histogram", "bytes")


@pytest.mark.parametrize("text", ["model_metrics:\n", "ts_metrics:\n  gauge:\n"])
def test_sections_may_be_empty(write, text):
    assert read(write(text)) == metrics_config.MetricsConfig({}, {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- a list", "the file must have keys: dimensions, ts_metrics, model_metrics"),
        ("ts_metric: {}", "the file: unknown key ts_metric; allowed are dimensions, ts_metrics"),
        ("ts_metrics: {timer: []}", "ts_metrics: unknown key timer; allowed are counter, gauge, histogram"),
        ("ts_metrics: {gauge: {a: 1}}", "ts_metrics.gauge must be a list"),
        ("model_metrics: {gauge: [{unit: ms, dimensions: []}]}", "gauge, entry 1: name must be a text"),
        (
            "model_metrics: {gauge: [{name: n, unit: '', dimensions: []}]}",
            "unit must be a text that is not empty",
        ),
        ("model_metrics: {gauge: [{name: n, unit: ms}]}", "dimensions must be a list of names, but is None"),
        (
            "model_metrics: {gauge: [{name: n, unit: ms, dimensions: [a, a]}]}",
            "a dimension is named twice: a, a",
        ),
        (
            "ts_metrics: {gauge: [{name: n, unit: s, dimensions: []}, {name: n, unit: s, dimensions: []}]}",
            "ts_metrics: n is listed twice",
        ),
        (
            "ts_metrics: {gauge: [{name: CPUUtilization, unit: Percent, dimensions: [Level]}]}",
            "CPUUtilization needs 2 dimensions, the last one for the host, but has 1: Level",
        ),
        ("a: [", "is not YAML"),
    ],
)
def test_a_bad_file_is_told_with_its_name_and_what_is_wrong(write, text, told):
    path = write(text)
    with pytest.raises(MetricsConfigError) as caught:
        read(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_start_with_a_bad_or_missing_file_is_refused(write, tmp_path):
    with pytest.raises(SettingsError, match="is not YAML"):
        load(metrics_config=write("a: ["))
    with pytest.raises(SettingsError, match=r"no-such\.yaml cannot be read"):
        load(metrics_config=tmp_path / "no-such.yaml")


@pytest.mark.parametrize(
    ("settings", "plane"),
    [
        ({}, "metrics"),
        ({"enable_metrics_api": False}, ""),
        ({"metrics_address": "http://127.0.0.1:8080"}, "inference"),
        ({"metrics_address": "http://127.0.0.1:8081"}, "management"),
    ],
)
def test_metrics_have_an_address_of_their_own_or_share_one(settings, plane):
    assert load(**settings).metrics_plane == plane


def test_the_mode_may_be_written_in_capitals():
    assert load(metrics_mode="PROMETHEUS").metrics_mode == "prometheus"
    with pytest.raises(SettingsError, match="metrics_mode"):
        load(metrics_mode="loud")
