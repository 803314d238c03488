"""Sentences about a version that cannot be loaded, or works, but not as it was asked to."""

import re
from collections.abc import Iterable
from pathlib import PurePath

from marq.registry.reports import PoolReport
from marq.registry.sizes import placement
from marq.registry.sizes.hosts import Hosts
from marq.registry.spec import ModelSpec

_FRAME = re.compile(r'  File "(.+)", line (\d+)')
OURS = "workers."  # begins the exceptions that wrap those of handlers


def cannot_load(spec: ModelSpec, reason: str) -> str:
    """The error message of a model whose replicas crash before, or soon after, they are ready."""
    return f'Model "{spec.name}" Version {spec.version} cannot be loaded: {own_error(reason)}'


def own_error(reason: str) -> str:
    """The exception of the handler, with file and line, from the last lines of a replica.

    The last line where there is no traceback. A hint of the exception that wraps it is kept.
    """
    lines = [line for line in reason.splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown"
    place = error = shown = ""
    for line in lines:
        if frame := _FRAME.match(line):
            place = f"{PurePath(frame[1]).name}, line {frame[2]}"
        elif place and not line.startswith(" "):  # the end of a traceback
            if not line.startswith(OURS):
                error, shown = line, f"{line} ({place})"
            place = ""
    message = error.partition(": ")[2] or error
    return shown + last.partition(message)[2] if error and message in last else last


def notices(spec: ModelSpec, reports: Iterable[PoolReport], size: int, hosts: Hosts) -> list[str]:
    """From the registration, the reports of the pools that are alive, and the devices of the hosts.

    None repeats the reason of a failure. `size`: the number of replicas that there are to be.
    """
    found = list(reports)
    said = [f"{report.node}: {report.reason}" for report in found if report.reason and not report.failures]
    nodes = [report.node for report in found if any(replica.device == "cpu" for replica in report.replicas)]
    if spec.device_type == "gpu" and nodes:
        said.append(f"{', '.join(sorted(set(nodes)))}: {no_gpu(spec)}")
    of_devices = placement.unplaced(spec, size, hosts), placement.unknown_ids(spec, hosts)
    return [*spec.config_notices, *said, *filter(None, of_devices)]


def no_gpu(spec: ModelSpec) -> str:
    """As TorchServe does, replicas run on the CPU where there is no GPU."""
    return f"{spec.name} has deviceType gpu, and this host has no GPU: its replicas run on the CPU"
