"""How many more replicas of a pool may start now: no more than this host can load at the same time."""

import psutil

from workers.devices import cores

LOADING_PER_CORE = 4


def room(loading: int, takes: int) -> int:
    """`loading`: replicas that load now; `takes`: the memory of the largest one that is ready, in bytes.

    0 also where the memory of this host is too short for one more.
    """
    most = LOADING_PER_CORE * cores()
    if takes:
        most = min(most, psutil.virtual_memory().available // takes)
    return max(0, most - loading)
