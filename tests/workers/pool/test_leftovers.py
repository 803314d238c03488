"""Which processes count as left behind by a pool."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from support import wait_for

from workers.pool import leftovers

# A pool that leaves a process behind; its output is that process's pid.
POOL = """
import os, subprocess
from workers.pool import leftovers
env = os.environ | {leftovers.MARK_VARIABLE: leftovers.new_mark()}
child = subprocess.Popen(["sleep", "60"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(os.getpid(), child.pid)
"""


@pytest.fixture
def left_behind() -> Iterator[list[list[int]]]:
    """Of two pools, which may have the same name: (pid of the pool, pid of the process)."""
    pids = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", POOL], capture_output=True, text=True, check=True)
        pids.append([int(word) for word in done.stdout.split()])
    yield pids
    for _, process in pids:
        if runs(process):
            os.kill(process, 9)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_end_of_a_pool_ends_what_it_left_behind_and_nothing_of_another_pool(
    left_behind: list[list[int]],
) -> None:
    (ended, process), (_, other) = left_behind
    leftovers.end_of_pool(ended)
    wait_for(lambda: not runs(process), what="the end of the process")
    assert runs(other)
