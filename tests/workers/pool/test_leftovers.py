"""Which processes count as left behind by a pool, whatever they did to leave it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest
from support import wait_for

from workers.pool import leftovers

# A pool whose replica leaves a daemon behind that has cleared its environment and left its session and its
# parent; the output is the pids of the pool and of the daemon.
POOL = """
import os, subprocess
from workers.pool import leftovers
daemon = "read go; env -i setsid sh -c 'echo $$; exec sleep 60 > /dev/null 2>&1' &"
replica = subprocess.Popen(["bash", "-c", daemon], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
assert leftovers.mark(replica.pid)
print(os.getpid(), int(replica.communicate(b"go\\n")[0]))
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
