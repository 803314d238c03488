"""Which GPUs this host has, without importing torch, which costs hundreds of megabytes."""

import logging
import os

log = logging.getLogger(__name__)


def visible(limit: int | None = None) -> list[int]:
    """The CUDA device ids as handlers count them, at most `limit` of them. Honours CUDA_VISIBLE_DEVICES."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = _count() if given is None else len([part for part in given.split(",") if part.strip()])
    return list(range(count if limit is None else min(count, limit)))


def _count() -> int:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no GPU: %s", error)
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()
