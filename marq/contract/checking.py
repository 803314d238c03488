"""Checks an entry against the queue contract; warns of fields without effect."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from marq import keys
from marq.errors import MalformedEntry
from marq.queue.entries import FIELDS, Request, decode

LANE = re.compile(r"marq:\{[^{}]+\}:(\w+)(?::.+)?")
WRITTEN_BY_MARQ = ("attempts", "body_ref", "node", "passed", "replay_of", "run", "size", "store")
OF_SUBMIT = ("tags", "not_before", "result_ttl", "webhook", "webhook_events")  # submit.lua reads them
OF_JOBS = ("retries", "retry_on", "retry_delay", "input_url", "output_url")
NUMBERS = ("max_attempts", "not_before", "result_ttl", "retries", "retry_delay")
WITHOUT_EFFECT = "trace"
KNOWN = (*(name.decode() for name in FIELDS), *WRITTEN_BY_MARQ, *OF_SUBMIT, *OF_JOBS, "max_attempts")


@dataclass(frozen=True)
class Verdict:
    """`fault`: why the entry would become a dead letter, or reach no pool; empty if it would run."""

    fault: str
    warnings: list[str]

    @property
    def is_good(self) -> bool:
        return not self.fault


def check(lane: str, fields: list[bytes]) -> Verdict:
    """Judges an entry as a replica of this version of marq does. Without a lane, that is not judged."""
    if lane and (fault := _fault_of_lane(lane)):
        return Verdict(fault, [])
    try:
        request = decode(lane or keys.lane("model", "1.0"), b"0-1", fields)
    except MalformedEntry as error:
        return Verdict(f"{error.reason}.", [])
    return Verdict("", list(_warnings(request, fields)))


def _fault_of_lane(lane: str) -> str:
    found = LANE.fullmatch(lane)
    if found and found[1] in keys.LANES:
        return ""
    names = ", ".join(keys.LANES)
    return f"{lane!r:.100} is not a lane: marq:{{MODEL}}:LANE[:VERSION], LANE one of {names}."


def _warnings(request: Request, fields: list[bytes]) -> Iterator[str]:
    names = [name.decode("utf-8", "replace") for name in fields[::2]]
    values = dict(zip(names, fields[1::2], strict=True))
    yield from _of_names(names)
    if not (request.reply or request.replies or request.job):
        yield "the answer is not sent: name a stream in `reply`, or keep the result with `job` 1."
    if request.job not in (b"", b"1"):
        yield "`job` has no effect unless it is 1."
    for name in OF_JOBS:
        if name in values and request.job != b"1":
            yield f"`{name}` has an effect on jobs only: `job` must be 1."
    for name in NUMBERS:
        if name in values and not values[name].isdigit():
            yield f"`{name}` must be a whole number, not {values[name]!r:.40}: it has no effect."
    if request.headers and not _is_object(request.headers):
        yield "`headers` is not a JSON object: handlers get none."
    if request.deadline and int(request.deadline) <= time.time() * 1000:
        yield "`deadline` (unix milliseconds) has passed: the request is answered with 504, and does not run."


def _of_names(names: list[str]) -> Iterator[str]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"`{name}` comes {names.count(name)} times: the last one counts."
    for name in dict.fromkeys(names):
        if name in WRITTEN_BY_MARQ:
            yield f"`{name}` is written by marq: producers leave it out."
        elif name in OF_SUBMIT:
            yield f"`{name}` has an effect only if submit.lua queues the job."
        elif name == WITHOUT_EFFECT:
            yield f"`{name}` has no effect yet."
        elif name not in KNOWN:
            similar = get_close_matches(name, KNOWN, 1)
            yield f"`{name:.40}` is not a field: " + (
                f"did you mean `{similar[0]}`?" if similar else "ignored."
            )


def _is_object(value: bytes) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        return False
