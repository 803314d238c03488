"""How long a replica that was asked to end goes on for its open sequences."""

import time
from collections.abc import Callable

import redis

from marq import keys
from marq.admission.seats import Seat
from marq.connections.blocking import Connection
from marq.registry.spec import ModelSpec


class Leaving:
    """The end of one replica. It takes no new sequences meanwhile."""

    def __init__(
        self, connection: Connection, spec: ModelSpec, seat: Seat | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._connection, self._spec, self._seat, self._clock = connection, spec, seat, clock
        self._until = clock() + spec.sequence_drain_s

    def is_over(self) -> bool:
        """Whether it may end now: without open sequences, or when no client can continue them.

        That is so after `sequenceDrainSec`, without the model, without a gateway or without Redis.
        """
        if self._seat is None:
            return True
        try:
            open_ones = self._seat.leave()
            return not open_ones or self._clock() >= self._until or self._is_alone()
        except redis.RedisError:
            return True

    def _is_alone(self) -> bool:
        found = self._connection.pipeline(
            [("HEXISTS", keys.REGISTRY, self._spec.key), ("ZCARD", keys.GATEWAYS)]
        )
        return 0 in found
