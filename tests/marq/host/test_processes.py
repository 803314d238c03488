import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support import wait_for

from marq.host import processes
from marq.host.processes import PARENT_VARIABLE, child_environment

CHILD = """
import os, time
from marq.host.processes import die_with_parent
print(os.getpid(), die_with_parent(), flush=True)
time.sleep(60)
"""
PARENT = f"""
import subprocess, sys, time
from marq.host.processes import child_environment
subprocess.Popen([sys.executable, "-c", {CHILD!r}], env=child_environment())
time.sleep(60)
"""
SAY_PID = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs prctl")


@pytest.fixture
def start():
    """Starts Python code: the process, and the words of its first line."""
    started = []

    def start(code: str, environment=None):
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process, process.stdout.readline().split()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_child_is_told_its_parent_and_what_is_added(monkeypatch):
    monkeypatch.setenv("KEPT", "1")
    made = child_environment({"A": "1", "B": "1"}, {"B": "2"})
    assert (made["KEPT"], made["A"], made["B"]) == ("1", "1", "2")
    assert made[PARENT_VARIABLE] == str(os.getpid())
    assert PARENT_VARIABLE not in os.environ


@linux
def test_a_child_ends_when_its_parent_is_killed(start):
    parent, [child, supervised] = start(PARENT)
    assert supervised == "True"
    assert runs(int(child))
    parent.kill()
    wait_for(lambda: not runs(int(child)), what="the child's end")


@linux
def test_a_child_whose_parent_is_gone_already_ends_at_once(start):
    process, words = start(CHILD, {**os.environ, PARENT_VARIABLE: "1"})  # not the parent that it has
    assert words == []
    assert process.wait(60) == -signal.SIGKILL


def test_a_supervised_process_leaves_ctrl_c_to_its_supervisor(start):
    process, [_, supervised] = start(CHILD.replace("60", "0.3"), child_environment())
    assert supervised == "True"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


def test_a_process_that_nobody_supervises_ends_with_ctrl_c(start):
    environment = {name: value for name, value in os.environ.items() if name != PARENT_VARIABLE}
    process, [_, supervised] = start(CHILD, environment)
    assert supervised == "False"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) != 0


def test_a_process_that_is_asked_to_end_has_ended_when_it_is_a_zombie(start):
    process, _ = start("import time; print('up', flush=True); time.sleep(60)")
    assert processes.end(psutil.Process(process.pid), 30)
    assert process.wait(0) == -signal.SIGTERM


def test_a_process_that_another_one_waits_for_has_ended_when_it_is_gone(start):
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SAY_PID!r}]); input()"
    _, [child] = start(parent)
    assert processes.end(psutil.Process(int(child)), 30)
    wait_for(lambda: not psutil.pid_exists(int(child)), what="its parent's wait")


def test_a_process_that_ignores_the_request_has_not_ended(start):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True)"
    process, _ = start(f"{code}\ntime.sleep(60)")
    assert not processes.end(psutil.Process(process.pid), 0.1)
    assert process.poll() is None


def test_the_soft_limit_of_open_files_becomes_the_hard_one():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[0] - 1, before[1]))
    try:
        processes.raise_open_files()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert soft == hard == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
