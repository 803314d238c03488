"""Waiting for pools, and how registrations end: the pools stop, what is queued is answered, lanes vanish."""

import contextlib
import logging
import re
import time
from collections.abc import Container
from typing import Any

from archive.store import ModelStore
from marq import keys, metrics, results
from marq.burial import refuse
from marq.errors import MalformedEntry, RequestTimeout, ServiceUnavailable
from marq.message import JSON_HEADERS, Reply, Request, decode
from marq.registry import ModelSpec, Registry

log = logging.getLogger(__name__)

POLL_S = 0.05
START_S = 10.0  # what unpacking and starting a pool may add to a start-up time-out
SETTLE_S = 0.25  # every gateway has heard of the change by then and queues nothing more
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


def wait_for_workers(registry: Registry, spec: ModelSpec, timeout_s: float | None = None) -> tuple[int, str]:
    """How many replicas are ready, and why not as many as there should be (empty: they are).

    Those of an earlier generation do not count. Waits until they are, until one has failed, or until the
    time-out: by default the model's for starting.
    """
    timeout_s = timeout_s or spec.startup_timeout_s + START_S
    deadline = time.monotonic() + timeout_s
    while True:
        reports = [r for r in registry.live_reports(spec).values() if r.get("generation") == spec.generation]
        replicas = [replica for report in reports for replica in report["replicas"]]
        ready = sum(r["state"] == "ready" and r["generation"] == spec.generation for r in replicas)
        if ready >= spec.min_workers and len(replicas) <= spec.max_workers:
            return ready, ""
        reason = next((report["reason"] for report in reports if report["failures"]), "")
        if reason and spec.min_workers:
            return ready, reason
        if time.monotonic() >= deadline:
            return ready, f"{ready} of {spec.min_workers} workers are ready after {timeout_s:.0f} s"
        time.sleep(POLL_S)


def wait_until_stopped(registry: Registry, spec: ModelSpec, timeout_s: float) -> None:
    """Waits until no pool runs the version, and no gateway queues for it. Raises RequestTimeout."""
    began = time.monotonic()
    time.sleep(SETTLE_S)
    while any(report["wanted"] or report["replicas"] for report in registry.live_reports(spec).values()):
        if time.monotonic() - began >= timeout_s:
            raise RequestTimeout(f"Timed out while cleaning resources: {spec.name}")
        time.sleep(POLL_S)


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
    metrics.forget(registry.redis, spec.name, spec.version, last)


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
            "state": results.FAILED, "version": spec.version, "attempts": request.attempts,
            "finished": int(time.time() * 1000), "status": reply.status, "headers": reply.headers,
            "body": reply.body,
        }  # fmt: skip
        pipe.hset(record, mapping=values)
        pipe.pexpire(record, ttl_ms)
        pipe.publish(keys.finished(spec.name), request.id)
