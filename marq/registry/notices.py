"""Sentences about a version that works, but not as it was asked to."""

from collections.abc import Iterable

from marq.registry.reports import PoolReport
from marq.registry.spec import ModelSpec


def notices(spec: ModelSpec, reports: Iterable[PoolReport], unplaced: str = "") -> list[str]:
    """From the reports of the pools that are alive; none repeats the reason of a failure.

    `unplaced`: the sentence of `placement.unplaced`.
    """
    found = list(reports)
    said = [f"{report.node}: {report.reason}" for report in found if report.reason and not report.failures]
    nodes = [report.node for report in found if any(replica.device == "cpu" for replica in report.replicas)]
    if spec.device_type == "gpu" and nodes:
        said.append(f"{', '.join(sorted(set(nodes)))}: {no_gpu(spec)}")
    return [*said, unplaced] if unplaced else said


def no_gpu(spec: ModelSpec) -> str:
    """As TorchServe does, replicas run on the CPU where there is no GPU."""
    return f"{spec.name} has deviceType gpu, and this host has no GPU: its replicas run on the CPU"
