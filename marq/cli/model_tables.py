"""Tables of `marq models` and `marq describe`, from the answers of the management API."""

import json
from typing import TypedDict

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from marq.cli.answers import LoadFailure, Replica, Version


class Summary(TypedDict):
    """One version in `marq models --json`."""

    name: str
    version: str
    url: str
    replicas_ready: int
    replicas_wanted: int
    batch_size: int
    max_batch_delay_ms: int
    loaded_at_startup: bool


def summary(version: Version) -> Summary:
    """The row of one version in `marq models`."""
    ready = sum(worker["status"] == "READY" for worker in version["workers"])
    return {
        "name": version["modelName"],
        "version": version["modelVersion"],
        "url": version["modelUrl"],
        "replicas_ready": ready,
        "replicas_wanted": version["scaling"]["wanted"] if "scaling" in version else version["minWorkers"],
        "batch_size": version["batchSize"],
        "max_batch_delay_ms": version["maxBatchDelay"],
        "loaded_at_startup": version["loadedAtStartup"],
    }


def overview(versions: list[Version]) -> Table:
    """One line for each version."""
    table = Table("Model", "Version", "Archive", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("Replicas", "Batch", "Delay"):
        table.add_column(heading, justify="right", no_wrap=True)
    for version in map(summary, versions):
        table.add_row(
            *map(escape, (version["name"], version["version"], version["url"])),
            f"{version['replicas_ready']}/{version['replicas_wanted']}",
            str(version["batch_size"]),
            f"{version['max_batch_delay_ms']} ms",
        )
    return table


def details(version: Version) -> RenderableType:
    """The view of one version in `marq describe`: settings, replicas, and why replicas fail to load."""
    shown: list[RenderableType] = [
        _facts({name: value for name, value in version.items() if name not in ("workers", "loadFailure")})
    ]
    if replicas := version.get("workers"):
        shown.append(_replicas(replicas))
    if failure := version.get("loadFailure"):
        shown.append(_failure(failure))
    return Group(*shown)


def _facts(described: dict[str, object]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in described.items():
        shown = json.dumps(value) if isinstance(value, dict | list) else str(value)
        table.add_row(name, escape(shown))
    return table


def _replicas(replicas: list[Replica]) -> Table:
    """One line for each replica; the columns are the keys of the server's answer."""
    columns = [key for key, value in replicas[0].items() if not isinstance(value, dict | list)]
    table = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for replica in replicas:
        table.add_row(*(escape(str(replica.get(column, ""))) for column in columns))
    return table


def _failure(failure: LoadFailure) -> str:
    since = f" since {failure['failingSince']}" if "failingSince" in failure else ""
    times = "once" if failure["failures"] == 1 else f"{failure['failures']} times"
    return f"\nReplicas have failed to load{since}, {times}:\n{escape(failure['reason'])}"
