"""Whose fault a replica's end is: a request's, after which another starts at once, or the model's."""

import os
import re
import signal
import time

import pytest
from support import wait_for

from marq.registry.reports import PoolReport
from workers.pool.backoff import BACK_OFF_S, Failures

FRAGILE = """
import os

def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data and bytes(data[0]["body"]) == b"die":
        os._exit(3)
    return data and [b"served"] * len(data)
"""
# Ends by itself when the test has seen that it is ready, as often as a file says.
ILL = """
import os, threading, time
from pathlib import Path

left = Path("left")
times = int(left.read_text()) if left.exists() else {times}
if times:
    left.write_text(str(times - 1))
    def end():
        while not Path(f"end-{os.getpid()}").exists():
            time.sleep(0.01)
        print("the driver is lost", flush=True)
        os._exit(9)

    threading.Thread(target=end).start()
else:
    left.write_text("0")

def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data and [b"served"] * len(data)
"""


def report_of(registry, spec):
    return next(iter(registry.reports(spec).values()), PoolReport("host", 0))


@pytest.fixture
def end_ready(registry, register, tmp_path):
    """Ends the ill replicas that are ready."""
    spec = register()

    def end():
        for replica in registry.replicas(spec):
            if replica.is_ready:
                (tmp_path / "model" / f"end-{replica.pid}").touch()

    return end


def test_pauses_grow_with_failures_in_a_row():
    now = [1000.0]
    failures = Failures(lambda: now[0], lambda: now[0])
    assert [failures.add("why") for _ in range(11)] == [*BACK_OFF_S, 55]
    assert (failures.count, failures.reason, failures.pausing) == (11, "why", True)
    now[0] += 54.9
    assert failures.pausing
    now[0] += 0.1
    assert not failures.pausing
    since = failures.since
    failures.add("why else")
    assert (failures.since, failures.pausing) == (since, True)
    assert (failures.last_for(55), failures.last_for(60)) == (True, False)
    failures.forget()
    failures.end_pause()
    assert (failures.count, failures.reason, failures.since, failures.pausing) == (0, "", None, False)
    assert failures.add("why") == 1


def test_requests_that_end_replicas_as_soon_as_those_are_ready_are_not_taken_for_failures_to_load(
    pool, gateway, registry, register, caplog
):
    # Given requests each of which ends its replica before the pool looks
    gateway.send(*[b"die"] * 4, b"fine")
    # When their replicas have ended
    pool(handler=FRAGILE, max_attempts=1, max_retry_timeout_s=1)
    replies = gateway.wait(5)
    # Then they fail alone, and nothing tells against the model
    assert sorted(reply.status for reply in replies) == [200, 500, 500, 500, 500]
    assert caplog.text.count("starting another") == 4
    assert "starting another in" not in caplog.text
    assert report_of(registry, register()).failures == 0


def test_a_replica_that_ends_soon_after_it_was_ready_is_a_failure_with_its_reason(
    pool, gateway, registry, register, end_ready, caplog
):
    spec = register()
    # Given replicas that end by themselves before they have had a request
    pool(handler=ILL.replace("{times}", "100"), max_retry_timeout_s=1)

    def three_ends():
        report = report_of(registry, spec)
        if report.failures >= 3 and not report.replicas:
            return report
        end_ready()
        return None

    report = wait_for(three_ends, what="three ends")
    # Then each is followed by a longer pause, and the reason is told
    pauses = re.findall(r"starting another in (\d+) s", caplog.text)
    assert pauses[:3] == [str(pause) for pause in BACK_OFF_S[:3]]
    assert "the driver is lost" in report.reason
    assert "ended with exit code 9 soon after it was ready" in report.reason.splitlines()[-1]
    assert report.failing_since
    # And requests are refused with it
    gateway.send(b"x")
    [reply] = gateway.wait(1)
    assert reply.status == 503
    assert b"cannot be loaded: replica 0" in reply.body
    assert b"ended with exit code 9 soon after it was ready" in reply.body


@pytest.mark.slow
def test_failures_count_until_a_replica_has_lasted(pool, ready, registry, register, end_ready, monkeypatch):
    monkeypatch.setattr("workers.pool.replica_process.LASTING_S", 3600.0)
    spec = register()
    pool(handler=ILL.replace("{times}", "2"))
    wait_for(lambda: end_ready() or report_of(registry, spec).failures == 2, what="two failures")
    # Being ready alone proves nothing
    ready(1)
    time.sleep(0.3)
    assert report_of(registry, spec).failures == 2
    monkeypatch.setattr("workers.pool.replica_process.LASTING_S", 0.0)
    wait_for(lambda: report_of(registry, spec).failures == 0, what="an end of failures")
    assert report_of(registry, spec).failing_since is None


def test_failures_are_forgotten_when_a_replica_has_run_a_batch(
    pool, gateway, ready, registry, register, end_ready
):
    spec = register()
    pool(handler=ILL.replace("{times}", "1"))
    wait_for(lambda: end_ready() or report_of(registry, spec).failures == 1, what="a failure")
    ready(1)
    gateway.send(b"x")
    assert gateway.wait(1)[0].body == b"served"
    wait_for(lambda: report_of(registry, spec).failures == 0, what="an end of failures")


def test_a_replica_that_has_served_is_replaced_at_once(pool, gateway, ready, registry, register, caplog):
    pool()
    [pid] = ready(1)
    gateway.send(b"x")
    gateway.wait(1)
    os.kill(pid, signal.SIGKILL)
    ready(1, other_than=(pid,))
    assert "starting another in" not in caplog.text
    assert report_of(registry, register()).failures == 0
