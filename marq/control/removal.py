"""How a registration ends: its pools stop, queued requests are answered, its lanes are deleted."""

import contextlib
import logging
import re
from collections.abc import Container

import redis

from archive.store.model_store import ModelStore
from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.errors import ServiceUnavailable
from marq.jobs import schedule
from marq.metrics import measurements
from marq.queue import scripts
from marq.queue.giving_up import Entry, refusals, take
from marq.registry import lanes
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec

log = logging.getLogger(__name__)

REMOVAL = "removal"  # the consumer that holds them
MOST_LOOKS = 100  # at lanes whose producers go on


def retire(registry: Registry, spec: ModelSpec, preferred: Container[str] = ()) -> None:
    """Removes a version from the registry, also a default one: another becomes the default.

    That is the highest version, of those whose keys are `preferred` if there are any.
    """
    models = registry.models()
    others = [other for other in models.versions(spec.name).values() if other.version != spec.version]
    if others and models.defaults.get(spec.name) == spec.version:
        heir = max(others, key=lambda other: (other.key in preferred, _order(other.version)))
        registry.set_default(spec.name, heir.version)
    registry.unregister(spec)


def _order(version: str) -> list[tuple[int, str]]:
    """Sorts 10.0 after 9.0."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[-.+_]", version)]


def clear(registry: Registry, spec: ModelSpec, job_result_ttl_s: int) -> None:
    """Answers all queued requests with 503, then deletes the lanes. Finished jobs keep their results.

    An entry that arrives meanwhile is answered, too: lanes are deleted only while they are empty. One that
    arrives later makes its lane again, and waits there. Lanes of a version that is registered again are left
    to it.
    """
    drop = scripts.DROP.call(list(keys.lanes(spec.name, spec.version)))
    for _ in range(MOST_LOOKS):
        if registry.has(spec):
            return
        registry.redis.delete(keys.callers(spec.name, spec.version))  # no job is held back any more
        while schedule.queue_due(registry.redis, [spec], early=True):
            pass  # they are answered as those that are queued
        _answer(registry, spec, job_result_ttl_s)
        if clients.pipeline(registry.redis, [drop])[0]:
            break
    else:
        log.warning("%s is unregistered, but producers go on to add entries to its lanes", spec.key)
    lanes.delete_traces(registry.redis, spec)
    last = spec.name not in registry.models().specs
    measurements.forget(registry.redis, spec.name, spec.version, last)


def _answer(registry: Registry, spec: ModelSpec, job_result_ttl_s: int) -> None:
    reason = f"Model {spec.name} version {spec.version} was unregistered before the request ran."
    error = ServiceUnavailable(reason)
    client = registry.redis
    for lane in (*keys.lanes(spec.name, spec.version), *_seat_lanes(client, spec)):
        with contextlib.suppress(redis.ResponseError):  # the group exists
            client.xgroup_create(lane, keys.GROUP, "0", mkstream=True)
        # Also from replicas that run them: only the holder of an entry can finish its job.
        while entries := _take(client, lane):
            # Errors of these do not matter: a reply stream may be anything.
            clients.pipeline(client, refusals(spec, lane, entries, error, job_result_ttl_s * 1000))
            ids = [entry for entry, _ in entries]
            client.xdel(lane, *ids)
            client.xack(lane, keys.GROUP, *ids)


def _seat_lanes(client: RedisClient, spec: ModelSpec) -> list[str]:
    """The lanes of replicas that have not given up their seats: their hosts were lost."""
    seats = client.hkeys(keys.seat_owners(spec.name, spec.version))
    return [keys.seat_lane(spec.name, spec.version, seat.decode()) for seat in seats]


def _take(client: RedisClient, lane: str) -> list[Entry]:
    """None where another unregistration of the version has deleted the lane meanwhile."""
    try:
        return take(client, lane, REMOVAL, held=True)
    except redis.ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
        return []


def remove_download(store: ModelStore, registry: Registry, spec: ModelSpec) -> None:
    """Deletes the archive that was downloaded for this version, unless another version uses it."""
    if any(other.archive == spec.archive for other in registry.models()):
        return
    try:
        store.remove_download(spec.url)
    except OSError as error:
        log.warning("%s cannot be removed: %s", spec.archive, error)
