"""The options of a job: priority, times and retries."""

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypedDict

from marq import keys
from marq.errors import BadRequest
from marq.jobs import transfer_urls
from marq.queue.job_records import FINISHED
from marq.webhooks.urls import check_url

MOST_TAGS = 8
TAG = re.compile(r"[A-Za-z0-9_.=/+-]{1,64}")
LONGEST_S = 366 * 86_400
LONGEST_TTL_S = 90 * 86_400
MOST_ATTEMPTS = 100


class Options(TypedDict, total=False):
    """JobOptions as keyword arguments."""

    priority: str
    tags: Iterable[str]
    not_before: float | None
    result_ttl: float | None
    max_attempts: int | None
    retries: int | None
    retry_on: Iterable[int]
    retry_delay: float | None
    webhook: str | None
    webhook_events: Iterable[str]
    input_url: str | None
    output_url: str | None


@dataclass(frozen=True)
class JobOptions:
    """The options of one job. Raises BadRequest for a value that is out of its range.

    `not_before` is in unix seconds, `result_ttl` and `retry_delay` in seconds. `retries`: how often a job is
    tried again after the handler has failed it with one of the statuses `retry_on` (by default 429, 500,
    502, 503 and 504); the delay doubles each time. `max_attempts`: how many replicas may be lost while they
    run it. `webhook`: the URL that gets a message when the job has ended in one of the states
    `webhook_events`, by default in any. `input_url`: where the replica gets the body; `output_url`: where it
    puts the result.
    """

    priority: str = keys.NORMAL
    tags: Iterable[str] = ()  # a tuple once it is made, as retry_on
    not_before: float | None = None
    result_ttl: float | None = None
    max_attempts: int | None = None
    retries: int | None = None
    retry_on: Iterable[int] = ()
    retry_delay: float | None = None
    webhook: str | None = None
    webhook_events: Iterable[str] = ()
    input_url: str | None = None
    output_url: str | None = None

    def __post_init__(self) -> None:
        tags = (self.tags,) if isinstance(self.tags, str) else tuple(self.tags)
        object.__setattr__(self, "tags", tags)
        object.__setattr__(self, "retry_on", tuple(dict.fromkeys(self.retry_on)))
        events = (self.webhook_events,) if isinstance(self.webhook_events, str) else self.webhook_events
        object.__setattr__(self, "webhook_events", tuple(events))
        if self.priority not in keys.LANES:
            raise BadRequest(f"priority must be one of {', '.join(keys.LANES)}, not {self.priority!r:.100}")
        if len(tags) > MOST_TAGS or not all(TAG.fullmatch(tag) for tag in tags):
            raise BadRequest(
                f"tags must be up to {MOST_TAGS} texts like ^{TAG.pattern}$, not {list(tags)!r:.200}"
            )
        if self.not_before is not None:
            latest = int(time.time()) + LONGEST_S
            _check("not_before", self.not_before, 0, latest, "a time in unix seconds within a year,")
        _check("result_ttl", self.result_ttl, 1, LONGEST_TTL_S, "seconds")
        _check("max_attempts", self.max_attempts, 1, MOST_ATTEMPTS, "a whole number")
        _check("retries", self.retries, 0, MOST_ATTEMPTS, "a whole number")
        _check("retry_delay", self.retry_delay, 0.001, LONGEST_S, "seconds")
        if self.retries is None and (self.retry_on or self.retry_delay is not None):
            raise BadRequest("retry_on and retry_delay have no effect without retries")
        for status in self.retry_on:
            _check("retry_on", status, 400, 599, "statuses")
        self._check_webhook()
        for name in ("input_url", "output_url"):
            if (url := getattr(self, name)) is not None:
                transfer_urls.check(url, name)

    def _check_webhook(self) -> None:
        if self.webhook is not None:
            check_url(self.webhook)
        elif self.webhook_events:
            raise BadRequest("webhook_events has no effect without webhook")
        if unknown := set(self.webhook_events) - FINISHED:
            known = ", ".join(sorted(FINISHED))
            raise BadRequest(f"webhook_events must be some of {known}, not {min(unknown)!r:.100}")

    def refuse_urls(self, whose: str) -> None:
        """Raises BadRequest if an `input_url` or `output_url` is given."""
        if self.input_url or self.output_url:
            raise BadRequest(f"{whose} no input_url and no output_url.")

    def of_model(self, webhook_url: str) -> "JobOptions":
        """The same with the webhook of a model, unless the job has its own."""
        return replace(self, webhook=webhook_url) if webhook_url and self.webhook is None else self

    @property
    def webhook_fields(self) -> dict[str, str]:
        """The fields of the webhook, also in the record of a run of a workflow; empty without one."""
        given = {
            "webhook": self.webhook or "",
            "webhook_events": ",".join(dict.fromkeys(self.webhook_events)),
        }
        return {name: value for name, value in given.items() if value}

    @property
    def fields(self) -> tuple[bytes, ...]:
        """Names and values of the entry's fields."""
        values = {
            "tags": ",".join(dict.fromkeys(self.tags)),
            "not_before": _milliseconds(self.not_before),
            "result_ttl": _milliseconds(self.result_ttl),
            "max_attempts": self.max_attempts or "",
            "retries": self.retries or "",
            "retry_on": ",".join(map(str, self.retry_on)),
            "retry_delay": _milliseconds(self.retry_delay),
            **self.webhook_fields,
            "input_url": self.input_url or "",
            "output_url": self.output_url or "",
        }
        return tuple(str(part).encode() for pair in values.items() if pair[1] != "" for part in pair)


def _check(name: str, value: float | None, least: float, most: float, kind: str) -> None:
    if value is not None and not least <= value <= most:
        raise BadRequest(f"{name} must be {kind} from {least} to {most}, not {value!r:.100}")


def _milliseconds(seconds: float | None) -> int | str:
    return "" if seconds is None else round(1000 * seconds)


PLAIN = JobOptions()
