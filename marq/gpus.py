"""Which GPUs this host has, without importing torch, which costs hundreds of megabytes."""

import logging
import os
from itertools import takewhile

log = logging.getLogger(__name__)


def visible(limit: int | None = None) -> list[int]:
    """The CUDA device ids as handlers count them, at most `limit` of them. Honours CUDA_VISIBLE_DEVICES."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = _count() if given is None else _count_listed(given)
    return list(range(count if limit is None else min(count, limit)))


def _count_listed(given: str) -> int:
    """As CUDA reads the list: devices after a negative or empty part are hidden, so `-1` hides all."""
    parts = (part.strip() for part in given.split(","))
    return len(list(takewhile(lambda part: part and not part.startswith("-"), parts)))


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
