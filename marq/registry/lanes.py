"""The lanes of a version in Redis, and the other keys of the pools that serve them."""

from itertools import chain

import redis

from marq import keys
from marq.connections.commands import RedisClient
from marq.registry.spec import ModelSpec


def create(client: RedisClient, spec: ModelSpec) -> None:
    """Each has its group, from its first entry on: requests that are already queued are served, too."""
    for lane in keys.lanes(spec.name, spec.version):
        try:
            client.xgroup_create(lane, keys.GROUP, "0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def share(client: RedisClient, spec: ModelSpec) -> None:
    """Jobs that are queued from now on share the lanes as the version says."""
    key = keys.callers(spec.name, spec.version)
    with client.pipeline(transaction=True) as pipe:
        pipe.execute_command("DEL", key)
        if rules := spec.caller_rules:
            pipe.execute_command("HSET", key, *chain.from_iterable(rules.items()))
        pipe.execute()


def delete_traces(client: RedisClient, spec: ModelSpec) -> None:
    """Deletes all keys of a version's pools and their replicas. Its lanes may have entries, and stay."""
    seats = client.hkeys(keys.seat_owners(spec.name, spec.version))
    client.delete(
        *(keys.seat_lane(spec.name, spec.version, seat.decode()) for seat in seats),
        *keys.of_seats(spec.name, spec.version),
    )
    client.delete(keys.pools(spec.name, spec.version))
    for key in keys.celery_keys(spec.name, spec.version):  # one by one: not of one slot in a cluster
        client.delete(key)
