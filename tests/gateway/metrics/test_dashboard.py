import json
import re
from pathlib import Path

import pytest
import yaml

from marq.metrics.catalog import HISTOGRAM, OWN

DEPLOY = Path(__file__).parents[3] / "deploy"
NAME = re.compile(r"\bmarq_[a-z_]+")
LABELS = re.compile(r"(marq_[a-z_]+)\{([^}]*)\}")


def expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/marq.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def samples() -> dict[str, set[str]]:
    """Every sample that marq's own metrics have, with its labels."""
    found: dict[str, set[str]] = {}
    for name, metric in OWN.items():
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == HISTOGRAM else ("",)
        for suffix in suffixes:
            found[name + suffix] = {*metric.labels, *({"le"} if suffix == "_bucket" else ())}
    return found


@pytest.mark.parametrize("expression", expressions())
def test_a_panel_names_only_metrics_and_labels_that_exist(expression):
    known = samples()
    names = NAME.findall(expression)
    assert names
    assert set(names) <= known.keys()
    for name, selector in LABELS.findall(expression):
        assert set(re.findall(r"(\w+)=", selector)) <= known[name]


def test_every_metric_of_marq_has_a_panel():
    shown = " ".join(expressions())
    assert [name for name in OWN if name not in shown] == []


def test_prometheus_scrapes_the_metrics_port():
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["gateway:8082"]}]


def test_grafana_finds_its_data_source_and_dashboards():
    provisioning = DEPLOY / "grafana/provisioning"
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    [provider] = yaml.safe_load((provisioning / "dashboards/marq.yml").read_text())["providers"]
    assert (source["type"], provider["type"]) == ("prometheus", "file")
