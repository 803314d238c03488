import os
import signal
import threading

import pytest
from gate import HOLD
from support import wait_for

from marq import keys
from workers.pool.celery_pool import ReplicaPool

NAME = "m-1.0@host"
FAILING = "raise ValueError('no weights')\n"
WITH_CHILD = (
    "import subprocess, time\nsubprocess.Popen(['sleep', '60'])\n"
    "def handle(data, context): return data and (time.sleep(1.5) or [b'served'])\n"
)
HOLDING = HOLD + "def handle(data, context): return data and [hold(data[0]['body'].decode()) or b'served']\n"
SLOW = "import time\ndef handle(data, context): return data and time.sleep(60)\n"


def test_a_pool_runs_its_replicas_and_reports_them(pool, ready, registry, register):
    running = pool(2)
    pids = ready(2)
    assert sorted(running.info["processes"]) == sorted(pids)
    [report] = registry.reports(register()).values()
    assert (report.wanted, report.failures, report.node) == (2, 0, "host")
    assert [replica.device for replica in report.replicas] == ["cpu", "cpu"]


def test_a_killed_replica_is_replaced_and_what_it_held_is_answered(pool, ready, gateway):
    # Given a replica that is stopped with a request in its hands
    pool()
    [pid] = ready(1)
    os.kill(pid, signal.SIGSTOP)
    gateway.send(b"x")
    os.kill(pid, signal.SIGKILL)
    # Then another one takes its place and answers
    assert gateway.wait(1)[0].body == b"served"
    ready(1, other_than=(pid,))


def test_a_pool_grows_and_shrinks(pool, ready):
    running = pool(1)
    [first] = ready(1)
    running.grow(1)
    assert first in ready(2)
    running.shrink(1)
    assert ready(1) == [first]
    running.shrink(5)
    ready(0)
    assert running.limit == 0


def test_replicas_leave_no_scoreboards_behind(pool, ready, tmp_path):
    # Given boards of a pool of this name that was killed, and one of another pool
    boards = tmp_path / "run"
    boards.mkdir()
    for name in (f"{NAME}.0.board", f"{NAME}.7.board", f"{NAME}.1.part", "other-1.0@host.0.board"):
        (boards / name).touch()

    def found():
        return {file.name for file in boards.iterdir()} - {"other-1.0@host.0.board"}

    # Then only those of its own replicas are there, and none when they have ended
    running = pool(2)
    ready(2)
    assert found() == {f"{NAME}.0.board", f"{NAME}.1.board"}
    running.shrink(1)
    ready(1)
    wait_for(lambda: found() == {f"{NAME}.0.board"}, what="the end of the other one's")
    running.on_stop()
    assert found() == set()


def test_a_handler_that_cannot_be_loaded_is_reported_with_its_reason(pool, registry, register, caplog):
    pool(handler=FAILING)
    [report] = wait_for(
        lambda: [r for r in registry.reports(register()).values() if r.failures], 20, "a failure"
    )
    assert "no weights" in report.reason
    assert report.failing_since
    assert report.replicas == ()
    assert "before it was ready; starting another in 1 s" in caplog.text
    assert "ValueError: no weights" in caplog.text


def test_a_handler_that_takes_too_long_is_killed_and_its_request_fails(pool, gateway, client):
    pool(handler=SLOW, response_timeout_s=0, max_attempts=1)
    gateway.send(b"x")
    [reply] = gateway.wait(1)
    assert (reply.status, b"Worker died." in reply.body) == (500, True)
    [(_, letter)] = client.xrange(keys.dead_letters("m"))
    assert b"no answer within the response time-out of 0 s" in letter[b"reason"]
    assert letter[b"ending"] == b"response time-out"


def test_a_stop_waits_for_the_replicas_and_withdraws_the_report(pool, ready, registry, register):
    running = pool(2)
    pids = ready(2)
    running.stop()
    assert registry.reports(register()) == {}
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_pool_that_ends_is_reported_as_alive_while_it_finishes_a_long_request(
    pool, ready, gateway, registry, register, gate
):
    # Given a replica that runs a request, and a pool that is to end
    running, spec = pool(handler=HOLDING), register()
    ready(1)
    gateway.send(str(gate).encode())
    gate.wait_until_reached()
    ending = threading.Thread(target=running.stop)
    ending.start()

    def last_report() -> float:
        [report] = registry.reports(spec).values()
        return report.reported if report.wanted == 0 and report.replicas else 0.0

    # Then it reports again and again that it wants no replicas, and has one
    first = wait_for(last_report)
    wait_for(lambda: last_report() > first)
    # And withdraws the report when the request has been answered
    gate.open()
    ending.join()
    assert gateway.replies()[0].body == b"served"
    assert registry.reports(spec) == {}


def test_somebody_who_reads_a_lane_by_hand_does_not_stop_a_pool(pool, ready, gateway, client, monkeypatch):
    monkeypatch.setattr("workers.pool.celery_pool.RECOVERY_EVERY_S", 0.0)
    gateway.send(b"x")
    client.xreadgroup(keys.GROUP, "me", {keys.lane("m", "1.0"): ">"})
    pool()
    assert gateway.wait(1)[0].body == b"served"


def test_a_pool_outlives_lost_connections(pool, ready, client):
    pool()
    [pid] = ready(1)
    client.client_kill_filter(_type="normal")
    os.kill(pid, signal.SIGKILL)
    ready(1, other_than=(pid,))


def test_a_celery_task_is_taken_and_fails(pool):
    accepted, failed = [], []
    running = pool(0)
    running.on_apply(
        accept_callback=lambda pid, _: accepted.append(pid), error_callback=lambda info: failed.append(info)
    )
    assert accepted == [os.getpid()]
    assert "through marq" in str(failed[0].exception)


def test_what_waits_for_a_model_that_cannot_be_loaded_is_answered_with_the_reason(pool, gateway, client):
    gateway.send(b"a", b"b")
    client.xadd(keys.lane("m", "1.0"), {"id": "j", "job": 1, "body": b"x"})
    pool(handler=FAILING, max_retry_timeout_s=1)
    replies = gateway.wait(2)
    assert {reply.status for reply in replies} == {503}
    assert b"cannot be loaded: " in replies[0].body
    assert b"ValueError: no weights" in replies[0].body
    wait_for(lambda: client.hget(keys.job("m", "j"), "state") == b"failed")


def test_what_replicas_held_is_put_back_at_once_even_if_their_children_live_on(pool, ready, gateway, client):
    # Given replicas that have started programs, which keep their output open
    running = pool(3, handler=WITH_CHILD)
    pids = ready(3)
    gateway.send(b"x", b"x", b"x")
    lane = keys.lane("m", "1.0")
    wait_for(lambda: client.xpending(lane, keys.GROUP)["pending"] == 3, what="three running requests")
    wait_for(lambda: all(replica.board.running for replica in running._replicas), what="notes of them")
    # When all are killed
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    # Then their requests are moved long before the programs end
    wait_for(lambda: client.xlen(lane) == 0, what="redelivery")
    assert {reply.body for reply in gateway.wait(3)} == {b"served"}


def test_the_pool_of_a_model_that_redis_has_lost_ends(pool, ready, client):
    running = pool(2)
    pids = ready(2)
    client.flushall()
    running.stop()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_model_for_gpus_says_once_that_it_runs_on_the_cpu(pool, ready, caplog):
    pool(2, device_type="gpu")
    ready(2)
    assert (
        caplog.text.count("m has deviceType gpu, and this host has no GPU: its replicas run on the CPU") == 1
    )


def test_lanes_that_somebody_deletes_are_there_again(pool, ready, gateway, client):
    pool()
    ready(1)
    client.delete(*keys.lanes("m", "1.0"))
    gateway.send(b"x")
    assert gateway.wait(1)[0].body == b"served"


@pytest.fixture
def refusing(client):
    """Has Redis refuse writes, as one does whose disk is full, until refusing(False)."""

    def refuse(wanted: bool = True) -> None:
        client.config_set("min-replicas-to-write", int(wanted))

    yield refuse
    refuse(False)


def test_a_pool_that_ends_while_redis_refuses_commands_waits_for_it_for_a_while_only(
    pool, ready, gateway, client, gate, refusing, monkeypatch, caplog
):
    monkeypatch.setattr("workers.pool.celery_pool.PATIENCE_S", 1.0)
    # Given a request that runs, and a Redis that refuses commands
    running = pool(handler=HOLDING, max_attempts=1)
    [pid] = ready(1)
    gateway.send(str(gate).encode())
    gate.wait_until_reached()
    refusing()
    # Then the end of the pool does not wait for the request
    running.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (
        "does not wait for its running batches: Redis has failed for more than 1 s (NOREPLICAS" in caplog.text
    )
    # And the next pool runs it, although it may run once only: it was not to blame
    refusing(False)
    gate.open()
    again = ReplicaPool(limit=1)
    again.start()
    try:
        assert gateway.wait(1)[0].body == b"served"
    finally:
        again.stop()
    assert client.xlen(keys.dead_letters("m")) == 0
