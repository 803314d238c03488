"""Removes the files of jobs that nothing needs any more.

A body is needed while its job may run, also after a retry or a replay; an answer while the record names it. A
Redis that is killed may lose the end of a job in its last seconds: the job then runs again, with its body.
"""

import time
from collections.abc import Iterator, Sequence
from itertools import islice

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient, Reply
from marq.connections.urls import Command
from marq.payloads.job_files import JobFiles, Stored
from marq.queue.job_records import CANCELLED, FINISHED, SUCCEEDED

AT_A_TIME = 1000  # files of one call
EVERY_S = 1.0
LASTING_S = 5.0  # the end of a job that is as old as this is in Redis's file
ORPHAN_S = 300.0  # a file without a record may be younger: its job is being submitted, or published


class FileSweep:
    """Looks at the files of one store, some each second; the node of the store's host calls it.

    Its methods raise redis.RedisError.
    """

    def __init__(self, files: JobFiles, client: RedisClient) -> None:
        self._files, self._redis = files, client
        self._left: Iterator[Stored] = iter(())
        self._due = 0.0

    def go_on_if_due(self) -> None:
        """Looks at the next files, unless that was done less than EVERY_S ago."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + EVERY_S
            self.go_on()

    def go_on(self) -> int:
        """Looks at the next files; returns how many were removed."""
        some = list(islice(self._left, AT_A_TIME))
        if len(some) < AT_A_TIME:
            self._left = self._files.all()
        if not some:
            some = list(islice(self._left, AT_A_TIME))
        unneeded = [file for file, needed in zip(some, self._are_needed(some), strict=True) if not needed]
        removed = [file for file in unneeded if not self._has_holder(file)]
        for file in removed:
            self._files.remove(file.ref)
        return len(removed)

    def _are_needed(self, files: Sequence[Stored]) -> list[bool]:
        """Whether the jobs that they were written for need them."""
        records = [keys.job(file.model, file.request_id) for file in files]
        asked: list[Command] = [("HMGET", record, "state", "body_ref", "finished") for record in records]
        asked += [("HEXISTS", record, "request") for record in records]
        found = self._pipeline(asked)
        return [
            _is_needed(file, state, answer, float(finished or 0) / 1000, bool(has_request))
            for file, (state, answer, finished), has_request in zip(
                files, found[: len(files)], found[len(files) :], strict=True
            )
        ]

    def _has_holder(self, file: Stored) -> bool:
        """Whether a dead letter, or a job that was one, needs a body; forgets those that do not any more."""
        if not file.is_body:
            return False
        key, start = keys.holders(file.model), file.ref + b" "
        held = False
        (members,) = self._pipeline([("ZRANGEBYLEX", key, b"[" + start, b"(" + start + b"\xff")])
        for member in members:
            kind, _, name = member.removeprefix(start).decode().partition(" ")
            if self._needs(kind, file.model, name):
                held = True
            else:
                self._redis.zrem(key, member)
        return held

    def _needs(self, kind: str, model: str, name: str) -> bool:
        if kind == "letter":
            return bool(self._redis.xrange(keys.dead_letters(model), name, name))
        record = keys.job(model, name)
        state, has_request = self._pipeline([("HGET", record, "state"), ("HEXISTS", record, "request")])
        return state is not None and _may_run(state.decode(), bool(has_request))

    def _pipeline(self, commands: list[Command]) -> list[Reply]:
        replies = clients.pipeline(self._redis, commands)
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


def _is_needed(
    file: Stored, state: bytes | None, answer: bytes | None, finished: float, has_request: bool
) -> bool:
    if state is None:
        return time.time() - file.written < ORPHAN_S
    if file.is_body:
        return _may_run(state.decode(), has_request) or time.time() - finished < LASTING_S
    # The answer of an attempt that runs is about to be published
    return state.decode() not in FINISHED or answer == file.ref


def _may_run(state: str, has_request: bool) -> bool:
    """Whether a job waits or runs, or can be queued again."""
    return state not in FINISHED or (has_request and state not in (SUCCEEDED, CANCELLED))
