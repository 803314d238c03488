"""docs/metrics.md has every metric with the type and the labels that it has."""

import re
from pathlib import Path

import pytest
import yaml

from marq.metrics import catalog
from marq.metrics.catalog import Metric

PROJECT = Path(__file__).parents[2]
OWN = [metric for metric in vars(catalog).values() if isinstance(metric, Metric)]
TORCHSERVES = yaml.safe_load((PROJECT / "marq/metrics/metrics.yaml").read_text())


def rows() -> dict[str, list[str]]:
    """The cells of each row of four, by each name in its first one."""
    found = {}
    for line in (PROJECT / "docs/metrics.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == 4:
            found.update(dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells))
    return found


@pytest.mark.parametrize("metric", OWN, ids=lambda metric: metric.name)
def test_a_metric_of_marq_has_its_type_and_labels(metric: Metric) -> None:
    _, kind, labels, _ = rows()[metric.name]
    assert kind.partition(",")[0] == metric.kind
    assert labels.split(", ") == list(metric.labels)


@pytest.mark.parametrize("section", ["ts_metrics", "model_metrics"])
def test_a_metric_of_torchserve_has_its_type(section: str) -> None:
    for kind, metrics in TORCHSERVES[section].items():
        for metric in metrics:
            assert rows()[metric["name"]][1].startswith(kind), metric
