"""The host's usage of processor, memory, disk and GPUs. `collect_all` writes one line for each value."""

import logging
from types import SimpleNamespace

from ts.metrics.dimension import Dimension
from ts.metrics.metric import Metric

logger = logging.getLogger(__name__)

MEGABYTE, GIGABYTE = 1024**2, 1024**3
DISK = "/"
COLLECTORS = (
    *("cpu_utilization", "memory_used", "memory_available", "memory_utilization"),
    *("disk_used", "disk_utilization", "disk_available"),
)

system_metrics = []
dimension = [Dimension("Level", "Host")]


def cpu_utilization():
    """Since the last call; since the start of the process in the first one."""
    import psutil

    _add("CPUUtilization", psutil.cpu_percent(), "percent")


def memory_used():
    _add("MemoryUsed", _memory().used / MEGABYTE, "MB")


def memory_available():
    _add("MemoryAvailable", _memory().available / MEGABYTE, "MB")


def memory_utilization():
    _add("MemoryUtilization", _memory().percent, "percent")


def disk_used():
    _add("DiskUsage", _disk().used / GIGABYTE, "GB")


def disk_utilization():
    _add("DiskUtilization", _disk().percent, "percent")


def disk_available():
    _add("DiskAvailable", _disk().free / GIGABYTE, "GB")


def gpu_utilization(num_of_gpu):
    """Memory and load of the first `num_of_gpu` GPUs; an empty list if the driver does not report them."""
    for gpu in gpus(num_of_gpu):
        of_gpu = [*dimension, Dimension("DeviceId", gpu.id)]
        _add("GPUMemoryUtilization", 100 * gpu.used / gpu.total, "percent", of_gpu)
        _add("GPUMemoryUsed", gpu.used / MEGABYTE, "MB", of_gpu)
        if gpu.load is not None:
            _add("GPUUtilization", gpu.load, "percent", of_gpu)


def collect_all(mod, num_of_gpu):
    """Logs one line for each metric that the collectors of a module (this one) find."""
    for metric in collect(mod, num_of_gpu):
        logger.info("%s", metric)


def collect(mod, num_of_gpu):
    """The metrics that the collectors of a module find."""
    for name in COLLECTORS:
        getattr(mod, name)()
    mod.gpu_utilization(num_of_gpu)
    return take()


def take():
    """The metrics that were found since the last call."""
    found = list(system_metrics)
    system_metrics.clear()
    return found


def gpus(most):
    """`id`, `used`, `free`, `total` (bytes) and `load` (percent, None if unknown) of the first GPUs."""
    if not most:
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        logger.debug("no GPU: %s", error)
        return []
    try:
        return [_gpu(pynvml, index) for index in range(min(int(most), pynvml.nvmlDeviceGetCount()))]
    except pynvml.NVMLError as error:
        logger.warning("the GPU driver does not answer: %s", error)
        return []
    finally:
        pynvml.nvmlShutdown()


def _gpu(pynvml, index):
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    try:
        load = pynvml.nvmlDeviceGetUtilizationRates(handle).gpu
    except pynvml.NVMLError:  # a MIG slice does not report a load
        load = None
    return SimpleNamespace(id=index, used=memory.used, free=memory.free, total=memory.total, load=load)


def _add(name, value, unit, dimensions=None):
    system_metrics.append(Metric(name, value, unit, dimensions or dimension))


def _memory():
    import psutil

    return psutil.virtual_memory()


def _disk():
    import psutil

    return psutil.disk_usage(DISK)
