"""How a registration ends: its pools stop, what is queued is answered, its lanes are deleted."""

import contextlib
import logging
import re
import time
from collections.abc import Container
from typing import Any

from archive.store.model_store import ModelStore
from marq import keys
from marq.errors import MalformedEntry, ServiceUnavailable
from marq.metrics import measurements
from marq.queue import job_records
from marq.queue.entries import JSON_HEADERS, Reply, Request, decode
from marq.queue.giving_up import refuse
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec

log = logging.getLogger(__name__)
CHUNK = 100  # entries that are answered at a time: their bodies may be large


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
    """Answers everything that is still queued with 503, then deletes the lanes."""
    reason = f"Model {spec.name} version {spec.version} was unregistered before the request ran."
    error = ServiceUnavailable(reason)
    for lane in keys.lanes(spec.name, spec.version):
        while entries := registry.redis.xrange(lane, count=CHUNK):
            pipe = registry.redis.pipeline(transaction=False)
            for entry, fields in entries:
                _answer(pipe, spec, lane, entry, fields, error, job_result_ttl_s * 1000)
            pipe.xack(lane, keys.GROUP, *(entry for entry, _ in entries))
            pipe.xdel(lane, *(entry for entry, _ in entries))
            *_, deleted = pipe.execute(raise_on_error=False)  # a reply stream may be anything
            if isinstance(deleted, Exception):
                raise deleted
    registry.delete_lanes(spec)
    last = spec.name not in registry.models().specs
    measurements.forget(registry.redis, spec.name, spec.version, last)


def remove_download(store: ModelStore, registry: Registry, spec: ModelSpec) -> None:
    """Deletes the archive that was downloaded for this version, unless another version uses it."""
    if any(other.archive == spec.archive for other in registry.models()):
        return
    try:
        store.remove_download(spec.url)
    except OSError as error:
        log.warning("%s cannot be removed: %s", spec.archive, error)


def _answer(
    pipe: Any, spec: ModelSpec, lane: str, entry: bytes, fields: dict[bytes, bytes],
    error: ServiceUnavailable, ttl_ms: int,
) -> None:  # fmt: skip
    try:
        request = decode(lane, entry, [part for pair in fields.items() for part in pair])
    except MalformedEntry as malformed:
        for command in refuse(spec, lane, entry, malformed):
            pipe.execute_command(*command)
        return
    reply = Reply(request.id, int(error.status), error.body(), JSON_HEADERS)
    for command in reply.commands(request.reply, request.replies):
        pipe.execute_command(*command)
    if request.job:
        _finish_job(pipe, spec, request, reply, ttl_ms)


def _finish_job(pipe: Any, spec: ModelSpec, request: Request, reply: Reply, ttl_ms: int) -> None:
    with contextlib.suppress(UnicodeDecodeError):  # an id that no job can have been given
        record = keys.job(spec.name, request.id.decode())
        pipe.hsetnx(record, "queued", request.queued_ms)
        values: dict[Any, Any] = {
            "state": job_records.FAILED, "version": spec.version, "attempts": request.attempts,
            "finished": int(time.time() * 1000), "status": reply.status, "headers": reply.headers,
            "body": reply.body,
        }  # fmt: skip
        pipe.hset(record, mapping=values)
        pipe.pexpire(record, ttl_ms)
        pipe.publish(keys.finished(spec.name), request.id)
