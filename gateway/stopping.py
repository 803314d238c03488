"""When a gateway that stops no longer waits for the answers to predictions in flight."""

import asyncio
import logging
from collections.abc import Callable

from gateway.routing.health import Health
from marq.errors import QueueUnavailable
from marq.queue.broker import STOPPING, Broker

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.2


async def give_up_in_time(
    stopping: asyncio.Event, broker: Broker, health: Health, limit_s: Callable[[], float]
) -> None:
    """Refuses the predictions in flight when the stop has lasted for its limit.

    It does so earlier if Redis has failed for too long: their answers could not come.
    """
    await stopping.wait()
    clock = asyncio.get_running_loop().time
    deadline = clock() + limit_s()
    while clock() < deadline and not health.is_refused:
        await asyncio.sleep(min(LOOK_EVERY_S, max(0.0, deadline - clock())))
    if not health.is_refused:
        broker.give_up(QueueUnavailable(STOPPING))
        return
    log.error("stopping without the answers to %d predictions: %s", broker.in_flight, health.failure)
    broker.give_up(QueueUnavailable(f"{STOPPING} {health.failure}"))
