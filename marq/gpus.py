"""Which GPUs this host has, without importing torch, which costs hundreds of megabytes."""

import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from types import ModuleType

log = logging.getLogger(__name__)

CUDA = "cuda"
PROBE_S = 60.0
AMD_DRIVER = Path("/dev/kfd")
# Prints [kind, [[memory, name], ...]] of AMD's, Intel's or Apple's devices.
PROBE = """
import json, torch
kind, devices = "", []
if torch.version.hip and torch.cuda.is_available():
    kind = "rocm"
    facts = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
elif hasattr(torch, "xpu") and torch.xpu.is_available():
    kind = "xpu"
    facts = [torch.xpu.get_device_properties(n) for n in range(torch.xpu.device_count())]
else:
    facts = []
devices = [[int(each.total_memory), str(each.name)] for each in facts]
if not kind and torch.backends.mps.is_available():
    kind, devices = "mps", [[int(torch.mps.recommended_max_memory()), "Apple GPU"]]
print(json.dumps([kind, devices]))
"""


@dataclass(frozen=True)
class Found:
    """The devices of this host."""

    kind: str  # "cuda", "rocm", "xpu", "mps"; empty: none
    devices: tuple[tuple[int, str], ...] = ()  # (memory in bytes, name) of each; 0 and "" where unknown

    def limited(self, most: int | None) -> "Found":
        kept = self.devices if most is None else self.devices[:most]
        return Found(self.kind if kept else "", kept)


def visible(limit: int | None = None) -> list[int]:
    """The device ids as handlers count them, at most `limit` of them. Honours CUDA_VISIBLE_DEVICES."""
    return list(range(len(found(limit).devices)))


def found(limit: int | None = None) -> Found:
    """The devices that this process may use, at most `limit` of them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return _listed(given).limited(limit)
    if devices := tuple(_driver_devices()):
        return Found(CUDA, devices).limited(limit)
    return _others().limited(limit)


def _listed(given: str) -> Found:
    """As CUDA reads the list: devices after a negative or empty part are hidden, so `-1` hides all.

    A part that is not the number of a device, such as `GPU-8f...` or `MIG-...`, has an unknown memory.
    """
    parts = (part.strip() for part in given.split(","))
    names = list(takewhile(lambda part: part and not part.startswith("-"), parts))
    there = tuple(_driver_devices()) if names else ()
    known = {str(number): device for number, device in enumerate(there)}
    return Found(CUDA, tuple(known.get(name, (0, "")) for name in names))


def _driver_devices() -> Iterator[tuple[int, str]]:
    """(memory, name) of each device that NVIDIA's driver knows."""
    with _driver() as library:
        if library:
            for number in range(int(library.nvmlDeviceGetCount())):
                yield _facts(library, number)


def _facts(library: ModuleType, number: int) -> tuple[int, str]:
    try:
        handle = library.nvmlDeviceGetHandleByIndex(number)
        name = library.nvmlDeviceGetName(handle)
        memory = int(library.nvmlDeviceGetMemoryInfo(handle).total)
    except (library.NVMLError, AttributeError) as error:  # a device that is lost, or an old driver
        log.debug("GPU %d: %s", number, error)
        return 0, ""
    return memory, name.decode() if isinstance(name, bytes) else str(name)


@contextmanager
def _driver() -> Iterator[ModuleType | None]:
    """NVIDIA's library; None where there is no driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no GPU: %s", error)
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


@lru_cache(1)
def _others() -> Found:
    """AMD's, Intel's and Apple's devices, as torch knows them: asked once, in a process that ends.

    Torch takes seconds to load, so it is asked only where such a device is likely. Intel's count where
    TS_IPEX_GPU_ENABLE is true, as in TorchServe.
    """
    is_apple = sys.platform == "darwin" and platform.machine() == "arm64"
    has_intel = os.environ.get("TS_IPEX_GPU_ENABLE", "").lower() == "true"
    if not (is_apple or has_intel or AMD_DRIVER.exists()):
        return Found("")
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", PROBE], capture_output=True, text=True, timeout=PROBE_S, check=True
        ).stdout
        kind, devices = json.loads(answer.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        log.warning("torch cannot say which devices this host has: %s", error)
        return Found("")
    return Found(kind, tuple((memory, name) for memory, name in devices))
