"""Forks of a replica, in a process of their own."""

import signal
import subprocess
import sys

SLOW_FORK = """
import os, signal, time
from workers.replica import children

os.register_at_fork(after_in_child=lambda: time.sleep(1))  # a busy machine
children.prepare()
signal.signal(signal.SIGTERM, lambda *_: None)
children.note_sigterm()

child = os.fork()
if child == 0:
    time.sleep(60)
    os._exit(0)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def test_sigterm_ends_a_fork_that_has_not_taken_its_own_handlers_yet() -> None:
    done = subprocess.run([sys.executable, "-c", SLOW_FORK], capture_output=True, text=True, check=True)
    assert done.stdout == f"{-signal.SIGTERM} set()\n"
