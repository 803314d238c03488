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
_OUR_CLASS = re.compile(rf"^{re.escape(OURS)}[\w.]+: ")


def cannot_load(spec: ModelSpec, reason: str) -> str:
    """The error message of a model whose replicas crash before, or soon after, they are ready."""
    return f'Model "{spec.name}" Version {spec.version} cannot be loaded: {own_error(reason)}'


def own_error(reason: str) -> str:
    """The exception of the handler, with file and line, from the last lines of a replica.

    Without a traceback the last line, without a class of ours. A hint of the exception that wraps it is kept.
    """
    lines = [line for line in reason.splitlines() if line.strip()]
    last = _OUR_CLASS.sub("", lines[-1], count=1) if lines else "unknown"
    place = error = where = ""
    for line in lines:
        if frame := _FRAME.match(line):
            place = f"{PurePath(frame[1]).name}, line {frame[2]}"
        elif place and not line.startswith(" "):  # the end of a traceback
            if not line.startswith(OURS):
                error, where = line, f" ({place})"
            place = ""
    message = error.partition(": ")[2] or error
    if not error or message not in last:
        return last
    return error + where + last.partition(message)[2].removeprefix(where)  # a SyntaxError says where itself


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
