"""The resident memory of processes whose ids come in on a stream."""

import logging

logger = logging.getLogger(__name__)


def get_cpu_usage(pid):
    """Resident bytes of a process (the name is historical); 0 if the process does not exist."""
    import psutil

    try:
        return psutil.Process(int(pid)).memory_info().rss
    except (psutil.Error, ValueError):
        return 0


def check_process_mem_usage(stdin):
    """Log `pid:bytes` for each comma-separated process id of the first line."""
    for pid in stdin.readline().strip().split(","):
        if pid:
            logger.info("%s:%d", pid, get_cpu_usage(pid))
