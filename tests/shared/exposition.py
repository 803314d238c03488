"""Reads what `/metrics` shows, with Prometheus' own parser."""

import re

from prometheus_client.parser import text_string_to_metric_families

Labels = tuple[tuple[str, str], ...]
NAME = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*", re.MULTILINE)


def samples(text: str) -> dict[tuple[str, Labels], float]:
    """Every sample by its name and its sorted labels. Raises ValueError for what Prometheus would refuse."""
    written = set(NAME.findall(text))
    found: dict[tuple[str, Labels], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # the parser adds `_total` to the names of counters that have none
            name = sample.name if sample.name in written else sample.name.removesuffix("_total")
            key = name, tuple(sorted(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    """One sample, which must be there."""
    found = samples(text)
    key = name, tuple(sorted(labels.items()))
    assert key in found, f"{key} is not among {[each for each in found if each[0] == name]}"
    return found[key]


def total(text: str, name: str, **labels: str) -> float:
    """The sum of all samples of a name that have these labels."""
    return sum(
        number
        for (sample, found), number in samples(text).items()
        if sample == name and labels.items() <= dict(found).items()
    )
