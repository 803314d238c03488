"""Totals of model versions since their registration, from the measurements of all their replicas."""

from collections.abc import Iterable

from marq import keys
from marq.connections.commands import RedisClient
from marq.metrics.catalog import BATCH_SIZE
from marq.metrics.measurements import SUM, encode


def requests(client: RedisClient, versions: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """How many requests each (model, version) has run; replicas add theirs once a second.

    Raises redis.RedisError.
    """
    wanted = list(versions)
    with client.pipeline(transaction=False) as pipe:
        for name, version in wanted:
            pipe.hget(keys.model_metrics(name), encode(BATCH_SIZE, (name, version), SUM))
        found = pipe.execute()
    return {pair: int(float(value or 0)) for pair, value in zip(wanted, found, strict=True)}
