"""Jobs of a registered model with webhooks, and a real receiver."""

import itertools

import pytest
from thread_replica import make_spec
from webhook_receiver import receiving

from marq import keys
from marq.connections import clients
from marq.jobs.jobs import Jobs
from marq.jobs.options import JobOptions
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead, decode
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply
from marq.webhooks.hosts import AllowedHosts
from marq.webhooks.inspection import Webhooks
from marq.webhooks.outbox import Outbox
from marq.webhooks.sending import Sender


@pytest.fixture
async def broker(redis_url, spec):
    broker = Broker(redis_url)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def jobs(broker):
    jobs = Jobs(broker)
    yield jobs
    jobs.stop()


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def submit(jobs):
    """Queues jobs with the ids 0, 1, 2, ..."""
    numbers = itertools.count()

    async def submit(webhook, events=(), **options):
        asked = JobOptions(webhook=webhook, webhook_events=events, **options)
        fields = EntryFields(b"x", EntryHead(options=asked.fields))
        return await jobs.submit("echo", "1.0", b"%d" % next(numbers), fields)

    return submit


@pytest.fixture
def answer(client, spec):
    """Answers the oldest queued jobs as a replica does."""

    def answer(count=1, status=200):
        lane = keys.lane("echo", "1.0")
        [(_, entries)] = client.xreadgroup(keys.GROUP, "replica", {lane: ">"}, count=count)
        flat = [(entry, [part for pair in fields.items() for part in pair]) for entry, fields in entries]
        answers = [
            (request, Reply(request.id, status, b"y")) for request in (decode(lane, *each) for each in flat)
        ]
        clients.pipeline(client, Publisher(make_spec(), "cpu", 60_000).commands(answers, 1))

    return answer


@pytest.fixture
async def make_sender(broker):
    """A sender like that of a gateway; by default this host may be sent to, and retries follow at once."""
    made = []

    def make(allowed="127.0.0.0/8", delays_s=(0.0, 0.0), secret=""):
        made.append(Sender(Outbox(broker), AllowedHosts.parse(allowed), secret, delays_s))
        return made[-1]

    yield make
    for sender in made:
        await sender.stop()


@pytest.fixture
def webhooks(client):
    return Webhooks(client)
