"""What gateways know of the queues, and what happens where they cannot know it."""

import asyncio
from urllib.parse import urlsplit, urlunsplit

import pytest

from gateway.routing.queue_watch import Backlogs
from marq import keys
from marq.connections import clients
from marq.errors import QueueFull
from marq.jobs.jobs import Jobs
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec

SPEC = ModelSpec("m", "1.0", "m.mar", "/m.mar", "h.py")
LANE = keys.lane("m", "1.0")


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        Registry(client).put(SPEC)
        yield client


@pytest.fixture
async def connect(redis_url, client):
    """A broker, of another user if one is named."""
    brokers = []

    async def connect(user: str = "") -> Broker:
        parts = urlsplit(redis_url)
        if user:
            client.acl_setuser(user, enabled=True, passwords=["+secret"], keys=["*"], channels=["*"],
                               commands=["+@all", "-info"])  # fmt: skip
            parts = parts._replace(netloc=f"{user}:secret@{parts.netloc.rpartition('@')[2]}")
        broker = Broker(urlunsplit(parts))
        await broker.start()
        brokers.append(broker)
        return broker

    yield connect
    for broker in brokers:
        await broker.stop()
    client.acl_deluser("restricted")


async def test_what_was_answered_makes_room_again(connect, client):
    backlogs, broker = Backlogs(100, 1000), await connect()
    backlog = backlogs.of(SPEC)
    backlog.admit(900)
    with pytest.raises(QueueFull):
        backlog.admit(900)
    await backlogs._look(broker)
    backlog.admit(900)


async def test_what_others_have_queued_counts(connect, client):
    backlogs, broker = Backlogs(100, 10_000), await connect()
    client.xadd(LANE, {"body": b"x" * 9_500})
    await backlogs._look(broker)
    backlog = backlogs.of(SPEC)
    await backlogs._look(broker)
    assert backlog.waiting == 1
    with pytest.raises(QueueFull, match="max_queued_bytes: 10000"):
        backlog.admit(900)


async def test_bodies_beside_the_lane_count(connect, client):
    # Given the body of a job, and that of a prediction of this gateway
    backlogs, broker = Backlogs(100, 200_000), await connect()
    backlog = backlogs.of(SPEC)
    jobs = Jobs(broker)
    await jobs.submit(SPEC.name, SPEC.version, b"job", EntryFields(b"x" * 90_000))
    broker.predict(LANE.encode(), b"prediction", EntryFields(b"x" * 90_000))
    # When the gateway looks
    await backlogs._look(broker)
    # Then there is no room for a third one, until one of them has ended
    with pytest.raises(QueueFull, match="max_queued_bytes: 200000"):
        backlog.admit(90_000)
    await jobs.cancel(f"{SPEC.name}:job")
    await backlogs._look(broker)
    backlog.admit(90_000)
    jobs.stop()


async def test_what_is_queued_during_a_look_counts(connect, client):
    # Given a look that waits for the reply of Redis
    backlogs, broker = Backlogs(100, 10_000), await connect()
    backlog = backlogs.of(SPEC)
    client.xadd(LANE, {"body": b"x"})
    look = asyncio.create_task(backlogs._look(broker))
    while not broker._commands._waiters:
        await asyncio.sleep(0)
    # When a request is admitted meanwhile
    backlog.admit(6_000)
    await look
    # Then it counts as well as the one that Redis knows
    assert backlog.waiting == 2
    with pytest.raises(QueueFull, match="max_queued_bytes: 10000"):
        backlog.admit(6_000)


async def test_limits_stay_true_where_a_user_must_not_ask_for_the_memory(connect, caplog):
    backlogs, broker = Backlogs(100, 1000), await connect("restricted")
    backlog = backlogs.of(SPEC)
    backlog.admit(900)
    await backlogs._look(broker)
    await backlogs._look(broker)
    backlog.admit(900)
    assert caplog.text.count("because INFO is not allowed") == 1


async def test_a_version_that_is_unregistered_leaves_its_room_to_others(connect, client):
    backlogs, broker = Backlogs(100, 10_000), await connect()
    backlogs.of(SPEC)
    client.xadd(LANE, {"body": b"x" * 9_500})
    look = asyncio.create_task(backlogs._look(broker))
    await asyncio.sleep(0)  # it has asked, and waits for what Redis says
    backlogs.keep(set())
    await look
    other = backlogs.of(ModelSpec("other", "1.0", "m.mar", "/m.mar", "h.py"))
    other.admit(9_000)


async def test_lanes_that_cannot_be_read_do_not_hide_those_of_other_models(connect, client, caplog):
    broken, sound = (ModelSpec(name, "1.0", "m.mar", "/m.mar", "h.py") for name in ("broken", "sound"))
    client.delete(*keys.lanes("broken", "1.0"))
    client.set(keys.lane("broken", "1.0"), "not a stream")
    client.xadd(keys.lane("sound", "1.0"), {"body": b"x"})
    backlogs, broker = Backlogs(100, 10_000), await connect()
    first, second = backlogs.of(broken), backlogs.of(sound)
    await backlogs._look(broker)
    assert (first.waiting, second.waiting) == (0, 1)
    assert "the lanes of broken/1.0 cannot be read" in caplog.text


async def test_many_models_are_read_several_at_a_time(connect, client):
    specs = [ModelSpec(f"m{number}", "1.0", "m.mar", "/m.mar", "h.py") for number in range(45)]
    for number, spec in enumerate(specs):
        for _ in range(number % 3):
            client.xadd(keys.lane(spec.name, spec.version), {"body": b"x"})
    backlogs, broker = Backlogs(100, 10_000), await connect()
    known = [backlogs.of(spec) for spec in specs]
    await backlogs._look(broker)
    assert [backlog.waiting for backlog in known] == [number % 3 for number in range(45)]
