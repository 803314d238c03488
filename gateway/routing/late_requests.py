"""Requests whose deadline passes while no replica runs: replicas check only the requests that they take."""

import time

import redis

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.errors import DeadlineExceeded
from marq.queue import scripts
from marq.queue.giving_up import refusals
from marq.queue.publishing import TOO_LATE
from marq.registry.spec import ModelSpec

EXPIRY = "expiry"  # the consumer that holds them until they are answered
AT_ONCE = 200  # entries of a lane that one look reads: a script holds up all other commands
FIRST = b"-"


class LateRequests:
    """Answers them with 504. Each look goes on in a lane where the one before has ended."""

    def __init__(self, client: RedisClient, job_result_ttl_ms: int) -> None:
        self._redis, self._ttl_ms = client, job_result_ttl_ms
        self._next: dict[str, bytes] = {}  # the first entry of the next look, by lane

    def expire(self, spec: ModelSpec) -> None:
        """Looks at some requests of a version. Raises redis.RedisError."""
        for lane in keys.lanes(spec.name, spec.version):
            now_ms = int(time.time() * 1000)
            first = self._next.pop(lane, FIRST)
            look = scripts.LATE.call([lane], keys.GROUP, EXPIRY, now_ms, first, AT_ONCE)
            try:
                after, *late = clients.run(self._redis, look)
            except redis.ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                continue  # it was unregistered meanwhile
            if after != FIRST:
                self._next[lane] = after
            if late:
                answers = refusals(spec, lane, late, DeadlineExceeded(TOO_LATE), self._ttl_ms)
                clients.pipeline(self._redis, answers)
