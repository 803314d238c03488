import logging
import os
import signal

import psutil
import pytest
from support import wait_for


def test_a_replica_tells_what_it_does(start, register, gateway):
    replica = start(register(batch_size=2, max_batch_delay_ms=0))
    report = replica.process.report()
    assert (report.state, report.device, report.requests, report.batches) == (
        "ready",
        "cpu",
        0,
        0,
    )
    assert report.memory > 1_000_000
    gateway.send(b"a", b"b")
    gateway.wait(2)
    report = replica.process.report()
    assert report.requests == 2
    assert report.pid == replica.process.pid


def test_output_goes_to_the_model_log_and_its_last_lines_are_kept(start, register, gateway, caplog):
    caplog.set_level(logging.INFO)
    replica = start(register())
    gateway.send(b"print from the handler", b"print [METRICS]x.Count:1|#a:b")
    gateway.wait(2)
    wait_for(lambda: "from the handler" in caplog.text)
    assert list(replica.process.output.tail) == ["device None", "Torch worker started.", "from the handler"]
    assert f"pid {replica.process.pid}] from the handler" in caplog.text


def test_a_replica_that_loads_is_not_waited_for(start, register):
    handler = "import time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    replica = start(register(), wait=False, handler=handler)
    wait_for(lambda: "loading" in list(replica.process.output.tail), what="the handler's module")
    replica.process.drain()
    assert replica.wait_for_exit() == -signal.SIGKILL


def test_a_handler_that_cannot_be_loaded_ends_its_replica_and_says_why(start, register):
    replica = start(register(), wait=False, handler="raise ValueError('no weights')\n")
    assert replica.wait_for_exit() != 0
    assert any("no weights" in line for line in replica.process.output.tail)
    assert replica.process.state == "stopped"


def test_what_a_handler_prints_is_not_taken_for_what_ended_it(start, register, gateway):
    replica = start(register())
    gateway.send(b"print no answer within the response time-out", b"die")
    replica.wait_for_exit()
    ending = replica.process.ending()
    assert (ending.cause, ending.overdue) == ("exit code 3", "")
    assert ending.printed[-1] == "no answer within the response time-out"
    assert ending.report.startswith(f"replica 0 (pid {replica.process.pid}) ended with exit code 3\n")


def test_time_outs_of_the_model_are_noticed(start, register, gateway):
    slow = start(register(response_timeout_s=0))
    assert slow.process.overdue() is None
    gateway.send(b"hold for-ever")
    slow.wait_until_running()
    assert "no answer within the response time-out of 0 s" in (slow.process.overdue() or "")
    slow.process.kill("it took too long")
    slow.process.kill()
    assert slow.wait_for_exit() == -signal.SIGKILL
    ending = slow.process.ending()
    assert (ending.cause, ending.overdue) == ("response time-out", "it took too long")
    assert ending.report.splitlines()[-1] == "it took too long"
    loading = start(register(startup_timeout_s=0), wait=False, handler="import time\ntime.sleep(60)\n")
    assert "not ready within the start-up time-out of 0 s" in (loading.process.overdue() or "")
    loading.process.kill("it took too long")
    loading.wait_for_exit()
    assert loading.process.ending().cause == "signal 9"


def test_the_handler_gets_the_names_of_the_headers_of_sequences(start, register):
    handler = """
class Handler:
    def initialize(self, context):
        kinds = ("id", "start", "end")
        print(*(getattr(context, f"header_key_sequence_{kind}") for kind in kinds))

    def handle(self, data, context):
        return data
"""
    usual = start(register(), handler=handler)
    other = start(register(), handler=handler, sequence_headers=["x-id", "x-first", "x-last"])
    names = "ts_request_sequence_id ts_request_sequence_start ts_request_sequence_end"
    wait_for(lambda: names in usual.process.output.tail)
    wait_for(lambda: "x-id x-first x-last" in other.process.output.tail)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system cannot pin processes to cores")
def test_a_pinned_replica_stays_on_its_share_of_the_cores(start, register):
    allowed = sorted(os.sched_getaffinity(0))
    cores = len(allowed)
    free = start(register())
    pinned = start(register(), pinned_among=cores, first_device=0)
    assert os.sched_getaffinity(free.process.pid) == set(allowed)
    for thread in psutil.Process(pinned.process.pid).threads():
        assert len(os.sched_getaffinity(thread.id)) == 1
