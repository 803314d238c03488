"""Observers of gateways see the ends of jobs: each once, also where a gateway ends meanwhile."""

import threading

import pytest
from support import wait_for

from gateway.observers import job_ends
from gateway.observers.job_ends import JobEnds
from gateway.observers.observing import Observing
from marq import keys
from marq.plugins.discovery import Found, Plugin
from marq.plugins.protocols import OBSERVERS
from marq.queue.entries import EntryFields, EntryHead


class Observer:
    protocol = 1

    def __init__(self):
        self.seen, self.may_go_on = [], threading.Event()
        self.may_go_on.set()

    def observe(self, finished):
        assert self.may_go_on.wait(60)
        self.seen += finished


@pytest.fixture
def gateway(jobs):
    """Makes the part of a gateway that passes ends on, and its only observer."""
    made = []

    def gateway(names=("echo",)):
        observer = Observer()
        made.append((Observing(Plugin(Found(OBSERVERS, "bill", "m:A", "bills", "1.0"), observer)), observer))
        return JobEnds(jobs, lambda: set(names), [made[-1][0]]), observer

    yield gateway
    for observing, observer in made:
        observer.may_go_on.set()
        observing.end(60)


async def test_each_end_has_its_status_times_and_sizes(gateway, jobs, submit, finish):
    ends, observer = gateway()
    await ends.open()
    for _ in range(3):
        await submit()
    cancelled = await submit()
    finish()
    finish(status=500)
    await jobs.cancel(cancelled)
    await ends.look()
    wait_for(lambda: len(observer.seen) == 3)
    told = [(each.model, each.version, each.kind, each.status, each.request_bytes, each.answer_bytes)
            for each in observer.seen]  # fmt: skip
    assert told == [
        ("echo", "1.0", "job", 200, 1, 1), ("echo", "1.0", "job", 500, 1, 1),
        ("echo", "1.0", "job", 499, 0, 0),
    ]  # fmt: skip
    assert all(0 <= each.seconds < 60 and each.ended > 1e9 for each in observer.seen)


async def test_a_job_that_another_producer_queued_is_seen_too(gateway, client, finish):
    ends, observer = gateway()
    await ends.open()
    client.xadd(keys.lane("echo", "1.0"), {"id": "p1", "job": "1", "body": b"12345"})
    finish()
    await ends.look()
    wait_for(lambda: [(each.status, each.request_bytes) for each in observer.seen] == [(200, 5)])


async def test_gateways_share_the_ends(gateway, submit, finish):
    gateways = [gateway() for _ in range(2)]
    for ends, _ in gateways:
        await ends.open()
    for _ in range(6):
        await submit()
        finish()
        for ends, _ in gateways:
            await ends.look()
    wait_for(lambda: sum(len(observer.seen) for _, observer in gateways) == 6)


async def test_what_a_gateway_has_taken_and_not_shown_is_taken_by_another_one(
    gateway, submit, finish, client, monkeypatch
):
    (first, stuck), (second, other) = gateway(), gateway()
    stuck.may_go_on.clear()
    await first.open()
    for number in range(2):
        await submit()
        finish()
        if not number:
            await first.look()
    monkeypatch.setattr(job_ends, "ABANDONED_MS", 0)
    await second.look()
    wait_for(lambda: len(other.seen) == 2)
    await second.acknowledge()
    assert client.xpending(keys.job_ends("echo"), job_ends.GROUP)["pending"] == 0


async def test_an_end_is_acknowledged_when_the_observer_has_seen_it(gateway, submit, finish, client):
    ends, observer = gateway()
    observer.may_go_on.clear()
    await ends.open()
    await submit()
    finish()
    await ends.look()
    await ends.acknowledge()
    assert client.xpending(keys.job_ends("echo"), job_ends.GROUP)["pending"] == 1
    observer.may_go_on.set()
    await ends.finish()
    assert client.xpending(keys.job_ends("echo"), job_ends.GROUP)["pending"] == 0


async def test_logs_that_redis_has_lost_begin_again(gateway, submit, finish, client, spec, registry):
    ends, observer = gateway()
    await ends.open()
    client.delete(keys.job_ends("echo"))
    with pytest.raises(Exception, match="NOGROUP"):
        await ends.look()
    ends.forget()
    await ends.open()
    await submit()
    finish()
    await ends.look()
    wait_for(lambda: len(observer.seen) == 1)


async def test_a_gateway_without_observers_makes_no_log(jobs, submit, finish, client):
    ends = JobEnds(jobs, lambda: {"echo"}, [])
    await ends.open()
    await submit()
    finish()
    assert ends.tasks() == {}
    assert not client.exists(keys.job_ends("echo"))


async def test_the_size_of_a_large_body_is_that_of_its_file(gateway, jobs, finish):
    ends, observer = gateway()
    await ends.open()
    fields = EntryFields(b"", EntryHead(options=(b"size", b"70000")))
    await jobs.submit("echo", "1.0", b"large", fields)
    finish()
    await ends.look()
    wait_for(lambda: [each.request_bytes for each in observer.seen] == [70_000])
