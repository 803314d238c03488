"""How long a gateway that stops waits for predictions in flight."""

import asyncio

import pytest
import redis
from clock import FakeClock

from gateway.routing.health import Health
from gateway.stopping import give_up_in_time
from marq.errors import QueueUnavailable
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields
from marq.registry.models import HEARTBEAT_LIMIT_S

FULL = redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")


@pytest.fixture
async def broker(redis_url):
    broker = Broker(redis_url)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def in_flight(broker):
    """A prediction that no replica answers."""
    return broker.predict(b"lane", b"1", EntryFields(b"x"))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def stopping():
    begun = asyncio.Event()
    begun.set()
    return begun


async def test_they_are_refused_at_the_limit(stopping, broker, in_flight, clock):
    await give_up_in_time(stopping, broker, Health(clock), lambda: 0.0)
    with pytest.raises(QueueUnavailable, match=r"^The server is stopping\.$"):
        await in_flight


async def test_while_redis_has_failed_for_long_they_are_refused_at_once_with_that_reason(
    stopping, broker, in_flight, clock, caplog
):
    health = Health(clock)
    health.refuse(FULL)
    giving_up = asyncio.create_task(give_up_in_time(stopping, broker, health, lambda: 3600.0))
    await asyncio.sleep(0.5)
    assert not in_flight.done()  # it may be a moment only
    clock.sleep(HEARTBEAT_LIMIT_S + 1)
    await giving_up
    with pytest.raises(
        QueueUnavailable, match=r"is stopping\. Redis fails: MISCONF .*No space left on device"
    ):
        await in_flight
    assert "stopping without the answers to 1 predictions: Redis fails: MISCONF" in caplog.text
