"""Announces changes of the registry and of the tokens on the management stream."""

from collections.abc import Mapping
from dataclasses import dataclass

from marq import keys
from marq.connections.commands import RedisClient
from marq.registry.spec import ModelSpec

AUDIT_LENGTH = 1000


@dataclass(frozen=True)
class Change:
    """A version as it is after a change of its settings."""

    spec: ModelSpec
    moment: float  # as `announce` returns it


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
