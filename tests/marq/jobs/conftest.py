"""Jobs of a registered model whose replica is the test."""

import itertools

import pytest
from thread_replica import make_spec

from marq import keys
from marq.connections import clients
from marq.jobs.jobs import Jobs
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead, decode
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply


@pytest.fixture
async def jobs(redis_url, spec):
    broker = Broker(redis_url)
    await broker.start()
    jobs = Jobs(broker)
    yield jobs
    jobs.stop()
    await broker.stop()


@pytest.fixture
def submit(jobs):
    """Queues jobs with the ids 0, 1, 2, ..."""
    numbers = itertools.count()

    async def submit(tags: bytes = b"", model="echo", version="1.0", options=None, priority=keys.NORMAL):
        flat = options.fields if options else (b"tags", tags) if tags else ()
        fields = EntryFields(b"x", EntryHead(options=flat))
        return await jobs.submit(model, version, b"%d" % next(numbers), fields, priority)

    return submit


@pytest.fixture
def finish(client, spec):
    """Answers the oldest queued jobs as a replica does, whose results are kept for this long."""

    def finish(count=1, status=200, ttl_ms=60_000, version="1.0", lane=keys.NORMAL):
        stream = keys.lane("echo", version, lane)
        publisher = Publisher(make_spec(version=version), "cpu", ttl_ms)
        [(_, entries)] = client.xreadgroup(keys.GROUP, "replica", {stream: ">"}, count=count)
        flat = [(entry, [part for pair in fields.items() for part in pair]) for entry, fields in entries]
        requests = [decode(stream, *each) for each in flat]
        answers = [(request, Reply(request.id, status, b"y")) for request in requests]
        clients.pipeline(client, publisher.commands(answers, 1))
        return requests

    return finish
