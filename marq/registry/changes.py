"""Announces changes of the registry and of the tokens on the management stream."""

from collections.abc import Mapping

from marq import keys
from marq.connections.commands import RedisClient

AUDIT_LENGTH = 1000


def announce(client: RedisClient, entry: Mapping[str, str]) -> float:
    """Wakes all nodes and gateways after a change, and returns a moment that lies between the two.

    A gateway that has read the registry and the tokens after that moment knows the change.
    """
    moment = now(client)
    client.xadd(keys.MANAGEMENT, entry, maxlen=AUDIT_LENGTH, approximate=True)
    return moment


def now(client: RedisClient) -> float:
    """Unix seconds by the Redis server's clock: the one that all hosts share."""
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
