"""Replicas start only where the host has room for them."""

import psutil
from gate import HOLD
from support import wait_for

from workers.devices import cores
from workers.pool.room import LOADING_PER_CORE

LOADS_SLOWLY = HOLD + "hold(GATE)\ndef handle(data, context): return data and [b'served']\n"


def test_a_pool_never_starts_more_replicas_than_its_host_can_load(pool, ready, gate):
    # Given a pool that is to have 5,000 replicas, which are slow to load
    running, most = pool(1, f"GATE = {str(gate)!r}\n{LOADS_SLOWLY}"), LOADING_PER_CORE * cores()
    running.grow(4999)
    # Then no more of them than the host can load have been started
    gate.wait_until_reached(most)
    wait_for(lambda: len(running.info["processes"]) == most, what="as many as the host can load")
    # When it is to have one after all
    running.shrink(4999)
    # Then it has one
    wait_for(lambda: len(running.info["processes"]) == 1, what="the end of the others")
    gate.open()
    ready(1)
    assert gate.reached() == most


def test_replicas_that_a_host_has_no_memory_for_wait_and_say_so(pool, ready, registry, register, monkeypatch):
    memory = psutil.virtual_memory()
    running = pool(1)
    pids = ready(1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory._replace(available=1))
    running.grow(1)

    def reason() -> str:
        return "".join(report.reason for report in registry.reports(register()).values())

    wait_for(lambda: reason() == "this host has no memory for more replicas than 1 of 2", what="the reason")
    # It is replaced nevertheless: the successor of a replica has to be ready before it ends
    running.shrink(1)
    running.replace(1)
    ready(1, other_than=tuple(pids))
    # More start when there is room
    monkeypatch.undo()
    running.grow(1)
    ready(2)
    wait_for(lambda: reason() == "", what="a report without the reason")
