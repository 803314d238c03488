"""The headers of a request that say how its job is queued, and those of RFC 7240."""

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from gateway.asgi import Headers
from gateway.inference import deadlines
from marq import keys
from marq.errors import BadRequest
from marq.jobs.options import LONGEST_S, JobOptions

LONGEST_WAIT_S = 60.0  # for a job in one request
PREFIX = b"x-marq-"
PRIORITY = b"x-marq-priority"  # also of predictions
PREFER = b"prefer"
IDEMPOTENCY_KEY = b"idempotency-key"
LONGEST_KEY = 255  # characters
START_BEFORE = b"x-marq-start-before"


def priority(headers: Headers) -> str:
    """The lane that a request asks for. Raises BadRequest."""
    for name, value in headers:
        if name.lower() == PRIORITY:
            return JobOptions(priority=value.decode("latin-1").strip()).priority
    return keys.NORMAL


def options(headers: Headers) -> JobOptions:
    """The options of a job. Raises BadRequest, also for a header of this kind that is not known."""
    given: dict[str, Any] = {}
    for line, value in headers:
        name = line.lower()
        if not name.startswith(PREFIX) or name == START_BEFORE:
            continue
        if name not in READERS:
            known = ", ".join(sorted(known.decode() for known in (*READERS, START_BEFORE)))
            raise BadRequest(f"Header {name.decode('latin-1')} is not known; there are {known}.")
        option, read, kind = READERS[name]
        if option in given:
            raise BadRequest(f"Header {name.decode()} is given twice; a list has commas.")
        text = value.decode("latin-1").strip()
        try:
            given[option] = read(text)
        except (ValueError, OverflowError):
            raise BadRequest(f"Header {name.decode()} must be {kind}, not {text!r:.100}") from None
    try:
        return JobOptions(**given)
    except BadRequest as error:
        raise BadRequest(f"Headers X-Marq-…: {error.message}") from None


def start_within_s(headers: Headers, not_before: float | None = None) -> float | None:
    """How long from now a job may wait for its start. Raises BadRequest, also where that is too early."""
    limits = [deadlines.timeout_s(headers)]
    for name, value in headers:
        if name.lower() == START_BEFORE:
            text = value.decode("latin-1").strip()
            try:
                left = _moment(text) - time.time()
            except (ValueError, OverflowError):
                left = math.nan
            if not 0 < left <= LONGEST_S:
                raise BadRequest(
                    f"Header {START_BEFORE.decode()} must be {MOMENT}, in the future, not {text!r:.100}"
                )
            limits.append(left)
    found = min((limit for limit in limits if limit is not None), default=None)
    if found is not None and not_before is not None and time.time() + found <= not_before:
        raise BadRequest(
            f"The job could never start: {START_BEFORE.decode()} or {deadlines.HEADER.decode()} is earlier "
            "than x-marq-not-before."
        )
    return found


def async_wait_s(headers: Headers) -> float | None:
    """The maximum wait of a client that takes a job instead of the answer (`Prefer: respond-async, wait=10`).

    None for other clients. RFC 7240 has a server ignore the preferences that it does not understand.
    """
    asks, wait_s = False, 0.0
    for name, value in headers:
        if name.lower() != PREFER:
            continue
        for preference in value.decode("latin-1").lower().replace(";", ",").split(","):
            key, _, number = preference.partition("=")
            asks = asks or key.strip() == "respond-async"
            if key.strip() == "wait" and number.strip().isdigit():
                wait_s = min(float(number), LONGEST_WAIT_S)
    return wait_s if asks else None


def idempotency_key(headers: Headers) -> str:
    """Empty without one. Raises BadRequest."""
    for name, value in headers:
        if name.lower() == IDEMPOTENCY_KEY:
            if not 0 < len(value) <= LONGEST_KEY:
                raise BadRequest(f"Idempotency-Key must have 1 to {LONGEST_KEY} characters.", 422)
            return value.decode("latin-1")
    return ""


def _moment(text: str) -> float:
    """Unix seconds of a time, or of so many seconds from now."""
    if text.startswith("+"):
        return time.time() + _finite(text)
    try:
        return _finite(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or "_" in text:
        raise ValueError(text)
    return number


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _whole(text: str) -> int:
    if "_" in text:
        raise ValueError(text)
    return int(text)


def _statuses(text: str) -> tuple[int, ...]:
    return tuple(_whole(part) for part in _list(text))


MOMENT = "a time such as 2026-11-27T20:15:00Z, unix seconds, or +SECONDS from now"
SECONDS, NUMBER = "a number of seconds", "a whole number"
Reader = tuple[str, Callable[[str], object], str]
READERS: dict[bytes, Reader] = {
    PRIORITY: ("priority", str, "a priority"),
    b"x-marq-tags": ("tags", _list, "tags with commas between them"),
    b"x-marq-not-before": ("not_before", _moment, MOMENT),
    b"x-marq-result-ttl": ("result_ttl", _finite, SECONDS),
    b"x-marq-max-attempts": ("max_attempts", _whole, NUMBER),
    b"x-marq-retries": ("retries", _whole, NUMBER),
    b"x-marq-retry-on": ("retry_on", _statuses, "statuses with commas between them"),
    b"x-marq-retry-delay": ("retry_delay", _finite, SECONDS),
    b"x-marq-webhook": ("webhook", str, "a URL"),
    b"x-marq-webhook-events": ("webhook_events", _list, "states with commas between them"),
    b"x-marq-input-url": ("input_url", str, "a URL"),
    b"x-marq-output-url": ("output_url", str, "a URL"),
}
