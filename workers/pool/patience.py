"""A pool's Celery waits while Redis refuses commands for a time, like one whose disk is full.

Celery itself would end the pool, and kombu would log a traceback each second: the pool logs that Redis fails.
"""

import logging
import time
from collections.abc import Callable
from queue import Empty

import redis
from kombu.transport.redis import Channel

from marq.connections.blocking import PASSING_CODES

PAUSE_S = 1.0
READERS = ("_brpop_read", "_receive")  # of messages, and of remote commands


def install() -> None:
    """Call this once, before Celery connects."""
    logging.getLogger("kombu.transport.redis").setLevel(logging.ERROR)
    for name in READERS:
        setattr(Channel, name, _patient(getattr(Channel, name)))


def _patient(read: Callable[..., object]) -> Callable[..., object]:
    def read_patiently(channel: Channel, **options: object) -> object:
        try:
            return read(channel, **options)
        except redis.ResponseError as error:
            if not str(error).startswith(PASSING_CODES):
                raise
            time.sleep(PAUSE_S)
            raise Empty from error  # the event loop reads again

    return read_patiently
