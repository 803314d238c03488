"""Steps before a model is created: a limit on GPU memory, extra files, the user's own preparations."""

import importlib
import logging
from pathlib import Path

import torch

from ts.handler_utils.extra_files import alone_in, unpack_extra_files

logger = logging.getLogger(__name__)

MIB = 1024 * 1024


def prepare(context, install_packages=None, unpack_dependencies=None):
    """Follows `system` in the model's YAML and calls the two functions, if given.

    The replicas of a host share the model directory: one prepares after the other.
    """
    model_dir = Path(context.system_properties["model_dir"])
    system = (getattr(context, "model_yaml_config", None) or {}).get("system") or {}
    limit_gpu_memory(system.get("maxGPUMemory"), context.system_properties.get("gpu_id"))
    with alone_in(model_dir):
        if install_packages:
            install_packages()
        if name := system.get("extraFiles"):
            unpack_extra_files(model_dir, name)
        if unpack_dependencies:
            unpack_dependencies()
    importlib.invalidate_caches()  # modules may have come


def limit_gpu_memory(limit_mib, gpu_id):
    """Keeps this process from taking more of its GPU; without one, the log says that nothing is limited."""
    if limit_mib is None:
        return
    if isinstance(limit_mib, bool) or not isinstance(limit_mib, int | float) or limit_mib <= 0:
        raise ValueError(f"system.maxGPUMemory is a number of MB, not {limit_mib!r}")
    if gpu_id is None or not torch.cuda.is_available():
        logger.info("system.maxGPUMemory (%s MB) is ignored: the model runs on the CPU", limit_mib)
        return
    total = torch.cuda.get_device_properties(gpu_id).total_memory
    fraction = min(1.0, limit_mib * MIB / total)
    torch.cuda.set_per_process_memory_fraction(fraction, gpu_id)
    logger.info("GPU %s: at most %s MB of %d", gpu_id, limit_mib, total // MIB)
