import logging
import signal
import time

from support import wait_for


def test_a_replica_tells_what_it_does(start, register, gateway):
    replica = start(register(batch_size=2, max_batch_delay_ms=0))
    report = replica.process.report()
    assert (report["state"], report["device"], report["requests"], report["batches"]) == (
        "ready",
        "cpu",
        0,
        0,
    )
    assert report["memory"] > 1_000_000
    gateway.send(b"a", b"b")
    gateway.wait(2)
    report = replica.process.report()
    assert report["requests"] == 2
    assert report["pid"] == replica.process.pid


def test_output_goes_to_the_model_log_and_its_last_lines_are_kept(start, register, gateway, caplog):
    caplog.set_level(logging.INFO)
    replica = start(register())
    gateway.send(b"print from the handler", b"print [METRICS]x.Count:1|#a:b")
    gateway.wait(2)
    wait_for(lambda: "from the handler" in caplog.text, 5)
    assert list(replica.process.tail) == ["device None", "Torch worker started.", "from the handler"]
    assert f"pid {replica.process.pid}] from the handler" in caplog.text


def test_a_replica_that_loads_is_not_waited_for(start, register):
    replica = start(register(), wait=False, handler="import time\ntime.sleep(60)\n")
    time.sleep(0.1)
    replica.process.drain()
    assert replica.wait_for_exit() == -signal.SIGKILL


def test_a_handler_that_cannot_be_loaded_ends_its_replica_and_says_why(start, register):
    replica = start(register(), wait=False, handler="raise ValueError('no weights')\n")
    assert replica.wait_for_exit() != 0
    assert any("no weights" in line for line in replica.process.tail)
    assert replica.process.state == "stopped"


def test_time_outs_of_the_model_are_noticed(start, register, gateway):
    slow = start(register(response_timeout_s=0))
    assert slow.process.overdue() is None
    gateway.send(b"sleep 5")
    slow.wait_until_running()
    assert "no answer within the response time-out of 0 s" in (slow.process.overdue() or "")
    slow.process.kill()
    assert slow.wait_for_exit() == -signal.SIGKILL
    loading = start(register(startup_timeout_s=0), wait=False, handler="import time\ntime.sleep(60)\n")
    assert "not ready within the start-up time-out of 0 s" in (loading.process.overdue() or "")
