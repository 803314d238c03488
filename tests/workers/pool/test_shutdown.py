"""Replicas that were asked to end: how long they may take, and what becomes of those that do not."""

import os
import time

import psutil
import pytest
import redis
from support import wait_for

from marq.queue.entries import Request
from workers import scoreboard
from workers.pool.shutdown import EXIT_S, GRACE_S, TAKE_UP_S, ShutdownDeadline
from workers.scoreboard import Scoreboard

FIRST, SECOND = Request(b"1-0", "lane", b""), Request(b"2-0", "lane", b"")
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


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(tmp_path) -> Scoreboard:
    """That of a replica that is ready."""
    board = Scoreboard.create(tmp_path / "board", 4)
    board.enter(scoreboard.READY)
    return board


def test_a_replica_that_was_not_asked_is_not_late(board, clock):
    deadline = ShutdownDeadline(board, 0.0, clock)
    clock.now += 3600
    assert deadline.overdue() is None


def test_a_replica_that_does_not_end_is_late_after_the_time_of_a_batch(board, clock):
    deadline = ShutdownDeadline(board, 2.0, clock)
    deadline.ask()
    clock.now += 2.0 + GRACE_S
    assert deadline.overdue() is None
    clock.now += 0.1
    assert deadline.overdue() == "it was asked to end 7 s ago"


@pytest.mark.parametrize("begins_s", [0.0, TAKE_UP_S / 2])
def test_what_runs_when_it_is_asked_or_just_afterwards_may_go_on(board, clock, begins_s):
    deadline = ShutdownDeadline(board, 2.0, clock)
    if not begins_s:
        board.begin([FIRST])
    deadline.ask()
    clock.now += begins_s
    board.begin([FIRST])
    deadline.overdue()
    clock.now += 3600
    assert deadline.overdue() is None
    # But not a row that is begun later
    board.begin([SECOND])
    assert deadline.overdue()


def test_a_replica_that_has_finished_has_a_moment_to_end(board, clock):
    deadline = ShutdownDeadline(board, 60.0, clock)
    board.enter(scoreboard.DRAINING)
    assert deadline.overdue() is None
    clock.now += EXIT_S
    assert deadline.overdue() is None
    clock.now += 0.1
    assert deadline.overdue() == "it has finished, but not ended for 5 s"


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
    wait_for(lambda: not psutil.pid_exists(deaf), what="the end of the deaf replica")
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
    wait_for(lambda: not psutil.pid_exists(pid), what="its end")
    assert f"(pid {pid}): it has finished, but not ended for 0.5 s" in caplog.text
    wait_for(lambda: not registry.replicas(register()), what="an empty report")


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
    assert time.monotonic() - began < 60


def test_a_replica_that_has_ended_while_redis_is_away_is_not_killed_again_and_again(
    pool, ready, monkeypatch, caplog
):
    monkeypatch.setattr("workers.pool.shutdown.EXIT_S", 0.5)
    running = pool(handler=KEPT_ALIVE)
    [pid] = ready(1)
    steps = 0

    def is_held() -> bool:
        nonlocal steps
        steps += 1
        raise redis.ConnectionError("away")

    def kills() -> int:
        return caplog.text.count(f"killing replica 0 (pid {pid})")

    # Given a pool that stops while Redis is away
    with monkeypatch.context() as away:
        away.setattr(running._name, "is_held", is_held)
        running._stopping.set()
        wait_for(lambda: not psutil.pid_exists(pid), what="the end of the replica")
        ended, said = steps, kills()
        # When it looks again
        wait_for(lambda: steps > ended + 2, what="more looks")
        # Then it says nothing more
        assert kills() == said > 0
