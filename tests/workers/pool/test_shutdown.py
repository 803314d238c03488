"""Replicas that were asked to end: how long they may take, and what becomes of those that do not."""

import os
import time

import psutil
import pytest
from support import wait_for

from workers import scoreboard
from workers.pool.shutdown import Departure
from workers.scoreboard import Scoreboard

FIRST, SECOND = b"lane 1-0", b"lane 2-0"
DEAF = """
import signal

def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return data and [b"served"] * len(data)
"""
# As a library may that leaves a thread behind.
KEPT_ALIVE = """
import threading, time

threading.Thread(target=time.sleep, args=(3600,)).start()

def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and [b"served"] * len(data)
"""


@pytest.fixture
def board(tmp_path, monkeypatch) -> Scoreboard:
    """A replica's that is ready; it is to end within 0.4 s, and may begin a batch for 0.1 s."""
    monkeypatch.setattr("workers.pool.shutdown.GRACE_S", 0.2)
    monkeypatch.setattr("workers.pool.shutdown.EXIT_S", 0.2)
    monkeypatch.setattr("workers.pool.shutdown.TAKE_UP_S", 0.1)
    board = Scoreboard.create(tmp_path / "board", 4)
    board.enter(scoreboard.READY)
    return board


def test_nobody_is_late_who_was_not_asked(board):
    departure = Departure(board, batch_s=0.0)
    time.sleep(0.3)
    assert departure.overdue() is None


def test_who_does_not_end_is_late_after_the_time_of_a_batch(board):
    departure = Departure(board, batch_s=0.2)
    departure.ask()
    time.sleep(0.3)
    assert departure.overdue() is None
    time.sleep(0.2)
    assert departure.overdue() == "it was asked to end 0.4 s ago"


@pytest.mark.parametrize("begins_s", [0.0, 0.05])
def test_what_runs_when_it_is_asked_or_just_afterwards_may_go_on(board, begins_s):
    departure = Departure(board, batch_s=0.2)
    if not begins_s:
        board.begin([FIRST])
    departure.ask()
    time.sleep(begins_s)
    board.begin([FIRST])
    departure.overdue()
    time.sleep(0.5)
    assert departure.overdue() is None
    # But not what is begun later
    board.begin([SECOND])
    assert departure.overdue()


def test_who_has_finished_has_a_moment_to_end(board):
    departure = Departure(board, batch_s=60.0)
    board.enter(scoreboard.DRAINING)
    assert departure.overdue() is None
    time.sleep(0.25)
    assert departure.overdue() == "it has finished, but not ended for 0.2 s"


def test_a_replica_that_ignores_sigterm_is_killed_and_what_it_holds_is_answered(
    pool, ready, gateway, monkeypatch, caplog
):
    monkeypatch.setattr("workers.pool.shutdown.GRACE_S", 0.5)
    running = pool(handler=DEAF, response_timeout_s=1)
    [deaf] = ready(1)
    gateway.send(b"x")
    gateway.wait(1)
    # When it is to be replaced
    running.replace(7)
    # Then it is killed, in the end
    wait_for(lambda: not psutil.pid_exists(deaf), 15, "the end of the deaf replica")
    assert f"killing replica 0 (pid {deaf}): it was asked to end 1.5 s ago" in caplog.text
    # And its successor serves
    gateway.send(b"y", b"z")
    assert {reply.body for reply in gateway.wait(3)} == {b"served"}


def test_a_replica_that_has_finished_but_is_kept_alive_by_a_thread_is_killed(
    pool, ready, registry, register, monkeypatch, caplog
):
    monkeypatch.setattr("workers.pool.shutdown.EXIT_S", 0.5)
    running = pool(handler=KEPT_ALIVE)
    [pid] = ready(1)
    running.shrink(1)
    wait_for(lambda: not psutil.pid_exists(pid), 10, "its end")
    assert f"(pid {pid}): it has finished, but not ended for 0.5 s" in caplog.text
    wait_for(lambda: not registry.replicas(register()), 5, "an empty report")


def test_a_replica_that_somebody_else_asked_to_end_is_replaced_even_if_it_hangs(pool, ready, monkeypatch):
    monkeypatch.setattr("workers.pool.shutdown.EXIT_S", 0.5)
    pool(handler=KEPT_ALIVE)
    [pid] = ready(1)
    os.kill(pid, 15)
    ready(1, other_than=(pid,))


def test_a_pool_stops_although_a_replica_hangs(pool, ready, monkeypatch):
    monkeypatch.setattr("workers.pool.shutdown.EXIT_S", 0.5)
    running = pool(handler=KEPT_ALIVE)
    ready(1)
    began = time.monotonic()
    running.stop()
    assert time.monotonic() - began < 8
