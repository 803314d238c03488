import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
from support import wait_for

from marq.host import stop_limit
from marq.host import watcher as module
from marq.host.watcher import PLAN_VARIABLE, Child, Plan, Program, Watcher

PROJECT = Path(__file__).parents[3]
SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(600)
"""
LAST_WORDS = """
import signal, sys, time
def end(*_):
    print(sys.argv[1], flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(600)
"""

REFUSED_AT_ITS_END = """
import os, signal, socket, sys, time
shared = socket.socket(fileno=int(sys.argv[1]))
address = shared.getsockname()
def end(*_):
    shared.close()
    with socket.socket() as client:
        print(os.strerror(client.connect_ex(address)), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture
def watch(tmp_path):
    """Starts a watcher of programs, in stages; programs write to `tmp_path/output`."""
    started = []

    def start(*stages):
        (tmp_path / "server.json").touch()
        plan = Plan([list(stage) for stage in stages], str(tmp_path / "server.json"), str(tmp_path / "logs"))
        environment = {**os.environ, PLAN_VARIABLE: json.dumps(asdict(plan))}
        command = [sys.executable, "-P", "-m", "marq.host.watcher"]
        sockets = [each for stage in stages for program in stage for each in program.descriptors]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, text=True, pass_fds=sockets
        )
        started.append(process)
        return started[-1]

    yield start
    for process in started:
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(process.pid).children():
                child.kill()
        process.kill()
        process.communicate()


@pytest.fixture
def program(tmp_path):
    """A program of Python code, with its output in `tmp_path/output`."""

    def make(name, code, *arguments, stop_timeout_s=10.0):
        command = [sys.executable, "-c", code, *arguments]
        return Program(name, command, stop_timeout_s, log=str(tmp_path / "output"))

    return make


def children(process):
    """The last words of the command lines of a process's children -> the children."""
    found = {}
    for child in psutil.Process(process.pid).children():
        with suppress(psutil.Error, IndexError):  # it has just ended
            found[child.cmdline()[-1]] = child
    return found


def test_a_program_that_ends_is_started_again(watch, program):
    # Given a running program
    watcher = watch([program("node", SLEEP)])
    first = wait_for(lambda: children(watcher).get(SLEEP), what="the program")
    # When it is killed
    first.kill()
    # Then another one takes its place
    wait_for(
        lambda: (other := children(watcher).get(SLEEP)) and other.pid != first.pid, what="the next program"
    )


def test_at_a_stop_the_stages_end_one_after_the_other(watch, program, tmp_path):
    # Given two stages
    watcher = watch(
        [program("gateway", LAST_WORDS, "gateway ends")], [program("node", LAST_WORDS, "node ends")]
    )
    output = tmp_path / "output"
    wait_for(lambda: output.exists() and output.read_text().count("up") == 2, what="both programs")
    # When the watcher is asked to stop
    watcher.send_signal(signal.SIGTERM)
    # Then the first stage has ended before the second is asked to, and the server's file is gone
    assert watcher.wait(60) == 0
    assert output.read_text().split("\n")[2:4] == ["gateway ends", "node ends"]
    assert not (tmp_path / "server.json").exists()
    assert watcher.stdout.read().startswith("Stopping")


def test_a_socket_is_closed_when_the_program_that_listens_on_it_closes_it_at_a_stop(watch, program, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as shared:
        number = shared.fileno()
        gateway = replace(program("gateway", REFUSED_AT_ITS_END, str(number)), descriptors=[number])
        watcher = watch([gateway])
    output = tmp_path / "output"
    wait_for(lambda: output.exists() and "up" in output.read_text(), what="the program")
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(60) == 0
    assert output.read_text().split("\n")[1] == "Connection refused"


def test_a_program_is_stopped_with_the_signal_of_its_own(watch, program, tmp_path):
    gateway = program("gateway", LAST_WORDS.replace("SIGTERM", "SIGUSR1"), "ends")
    watcher = watch([replace(gateway, stop_signal=signal.SIGUSR1)])
    output = tmp_path / "output"
    wait_for(lambda: output.exists() and "up" in output.read_text(), what="the program")
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(60) == 0
    assert output.read_text() == "up\nends\n"


def test_a_server_file_that_cannot_be_removed_does_not_make_a_stop_fail(watch, program, tmp_path):
    process = watch([program("a", SLEEP)])
    wait_for(lambda: psutil.Process(process.pid).children(), what="the program")
    (tmp_path / "server.json").unlink()
    (tmp_path / "server.json" / "in-the-way").mkdir(parents=True)
    process.terminate()
    assert process.wait(30) == 0


def test_a_program_that_does_not_end_in_time_is_killed(watch, program, tmp_path):
    watcher = watch([program("gateway", STUBBORN, stop_timeout_s=0.5)])
    wait_for(lambda: (tmp_path / "output").exists() and (tmp_path / "output").read_text(), what="the program")
    watcher.send_signal(signal.SIGINT)
    assert watcher.wait(60) == 0
    [log] = (tmp_path / "logs").glob("*")
    assert "the gateway did not end within 0.5 s; killing it" in log.read_text()


def test_the_end_of_a_terminal_is_a_stop_whose_limit_is_said(watch, program, tmp_path):
    # Given a program that drains, and a stop limit
    (tmp_path / stop_limit.FILE_NAME).write_text("42")
    watcher = watch([replace(program("gateway", LAST_WORDS, "drained"), drains=True)])
    output = tmp_path / "output"
    wait_for(lambda: output.exists() and "up" in output.read_text(), what="the program")
    # When the terminal ends
    watcher.send_signal(signal.SIGHUP)
    # Then it is a usual stop, and the console says how long it may take
    assert watcher.wait(60) == 0
    assert "requests in flight have 42 s to finish" in watcher.stdout.read()
    assert output.read_text().endswith("drained\n")


def test_a_server_that_is_to_outlive_its_terminal_does(watch, program):
    # Given a server that `nohup` has started
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        watcher = watch([program("node", SLEEP)])
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_for(lambda: children(watcher).get(SLEEP), what="the program")
    # When the terminal ends, then only a later signal stops it
    watcher.send_signal(signal.SIGHUP)
    watcher.send_signal(signal.SIGTERM)
    assert watcher.wait(60) == 0
    assert watcher.stdout.read().startswith("Stopping")


def test_a_program_that_drains_has_the_stop_limit_on_top(program, tmp_path):
    child = Child(replace(program("node", STUBBORN, stop_timeout_s=0.2), drains=True))
    wait_for(lambda: written(tmp_path), what="the program")
    began = time.monotonic()
    child.stop()
    child.wait(1.0)
    assert time.monotonic() - began >= 1.0


def test_a_second_interrupt_kills_what_has_not_ended(watch, program, tmp_path):
    # Given a program that does not end when it is asked to
    watcher = watch([program("gateway", STUBBORN, stop_timeout_s=600)])
    wait_for(lambda: (tmp_path / "output").exists() and (tmp_path / "output").read_text(), what="the program")
    # When Ctrl-C is pressed until the watcher ends
    lines = iter(watcher.stdout.readline, "")
    watcher.send_signal(signal.SIGINT)
    assert "Ctrl-C again" in next(lines)

    def press() -> bool:
        watcher.send_signal(signal.SIGINT)
        return watcher.poll() is not None

    wait_for(press, what="the end of the watcher")
    # Then it has ended long before the program's time-out
    assert watcher.returncode == 0
    assert next(lines).startswith("Forced")
    [log] = (tmp_path / "logs").glob("*")
    assert "the stop is forced; killing it" in log.read_text()


def test_interrupts_of_the_terminal_do_not_reach_a_program_that_is_still_starting(watch, program, tmp_path):
    code = f"import signal; print(repr(signal.getsignal(signal.SIGINT)), flush=True)\n{SLEEP}"
    watch([program("gateway", code)])
    output = tmp_path / "output"
    wait_for(lambda: output.exists() and output.read_text(), what="the program")
    assert "SIG_IGN" in output.read_text()


def test_a_plan_survives_its_way_through_the_environment(monkeypatch, program):
    plan = Plan([[program("gateway", SLEEP)], [program("node", SLEEP)]], "server.json", "logs")
    monkeypatch.setenv(PLAN_VARIABLE, json.dumps(asdict(plan)))
    assert module.read_plan() == plan
    assert PLAN_VARIABLE not in os.environ


# in this process


@pytest.fixture
def start(program):
    """Starts one program as a child of this process."""
    started: list[Child] = []

    def start(code, *arguments, **options) -> Child:
        started.append(Child(program("node", code, *arguments, **options)))
        return started[-1]

    yield start
    for child in started:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        child.wait()


def written(tmp_path) -> str:
    path = tmp_path / "output"
    return path.read_text() if path.exists() else ""


def test_a_child_that_ends_soon_after_its_start_is_not_started_again_at_once(start, monkeypatch):
    child = start("")
    first = child.pid
    wait_for(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE, what="its end")
    monkeypatch.setattr(module, "RESTART_DELAY_S", 600)
    child.keep_alive()
    assert child.pid == first
    monkeypatch.setattr(module, "RESTART_DELAY_S", 0)
    child.keep_alive()
    assert child.pid != first


def test_a_child_that_cannot_be_started_again_does_not_end_its_watcher(start, monkeypatch, caplog, tmp_path):
    # Given a child that has ended, and whose log cannot be opened
    child = start("")
    first = child.pid
    wait_for(lambda: psutil.Process(first).status() == psutil.STATUS_ZOMBIE, what="its end")
    monkeypatch.setattr(module, "RESTART_DELAY_S", 0)
    (tmp_path / "output").unlink()
    (tmp_path / "output").mkdir()
    # When the watcher looks after it
    child.keep_alive()
    assert "the node cannot be started, next attempt in 10 s" in caplog.text
    # Then a later attempt starts it
    (tmp_path / "output").rmdir()
    monkeypatch.setattr(module, "RESTART_DELAY_S", -100)
    child.keep_alive()
    assert child.pid != first


def test_a_running_child_stays_as_it_is(start, monkeypatch):
    monkeypatch.setattr(module, "RESTART_DELAY_S", 0)
    child = start(SLEEP)
    first = child.pid
    child.keep_alive()
    assert child.pid == first


def test_a_child_ends_when_it_is_asked_to(start, tmp_path):
    child = start(LAST_WORDS, "ends")
    wait_for(lambda: "up" in written(tmp_path), what="the program")
    child.stop()
    child.wait()
    assert written(tmp_path) == "up\nends\n"
    child.stop()  # it has ended: nothing more to do


def test_a_child_that_does_not_end_in_time_is_killed(start, tmp_path, caplog):
    child = start(STUBBORN, stop_timeout_s=0.1)
    wait_for(lambda: written(tmp_path), what="the program")
    child.stop()
    child.wait()
    child.wait()  # it has ended: nothing more to do
    assert not psutil.pid_exists(child.pid)
    assert "the node did not end within 0.1 s; killing it" in caplog.text


def test_a_foreign_program_has_a_session_of_its_own(program, tmp_path):
    made = program("Redis server", "import os; print(os.getsid(0), os.environ['ADDED'], flush=True)")
    made.foreign, made.environment = True, {"ADDED": "yes"}
    child = Child(made)
    child.wait()
    assert written(tmp_path).split() == [str(child.pid), "yes"]


def test_a_program_that_runs_already_is_taken_over(program):
    process = subprocess.Popen([sys.executable, "-c", SLEEP])
    made = program("Redis server", SLEEP)
    made.pid = process.pid
    child = Child(made)
    assert child.pid == process.pid
    child.stop()
    child.wait()
    assert not psutil.pid_exists(process.pid)
    process.returncode = 0  # it was waited for


def test_a_watcher_ends_with_a_signal_and_its_programs_with_it(program, tmp_path, capfd):
    # Given a program that ends its watcher once it runs, and a server's file
    (tmp_path / "server.json").touch()
    ender = f"import os, signal\nos.kill(os.getppid(), signal.SIGTERM)\n{LAST_WORDS}"
    plan = Plan(
        [[program("gateway", ender, "ends")], [program("node", SLEEP)]],
        str(tmp_path / "server.json"),
        str(tmp_path),
    )
    handlers = {number: signal.getsignal(number) for number in module.SIGNALS}
    # When the watcher runs
    try:
        Watcher(plan).run()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    # Then no program runs any more, and the file is gone
    assert not {"ends", SLEEP} & children(psutil.Process()).keys()
    assert not (tmp_path / "server.json").exists()
    assert capfd.readouterr().out.startswith("Stopping")


def test_it_needs_the_standard_library_alone():
    # -S: installed packages cannot be imported
    command = [sys.executable, "-S", "-c", "import marq.host.watcher"]
    found = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (0, "")
