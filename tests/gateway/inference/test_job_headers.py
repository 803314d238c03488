import time

import pytest

from gateway.inference import job_headers
from marq.errors import BadRequest
from marq.jobs.options import JobOptions


def test_headers_are_the_options_of_a_job():
    options = job_headers.options(
        [
            (b"X-Marq-Priority", b"low"), (b"x-marq-tags", b"night, ward-7"), (b"x-marq-result-ttl", b"90"),
            (b"x-marq-webhook", b"https://example.org/"), (b"x-marq-webhook-events", b"failed, expired"),
            (b"x-marq-max-attempts", b"2"), (b"x-marq-retries", b"3"), (b"x-marq-retry-on", b"500, 503"),
            (b"x-marq-retry-delay", b"0.5"), (b"x-marq-not-before", b"2026-11-27T20:15:00Z"),
        ]
    )  # fmt: skip
    webhook = ("https://example.org/", ("failed", "expired"))
    times = ("low", ("night", "ward-7"), 1795810500.0, 90, 2, 3, (500, 503), 0.5)
    assert options == JobOptions(*times, *webhook)
    assert job_headers.options([(b"accept", b"*/*")]) == JobOptions()


def test_a_time_may_be_relative():
    before = time.time()
    options = job_headers.options([(b"x-marq-not-before", b"+60")])
    assert before + 60 <= options.not_before <= time.time() + 60
    assert 0 < job_headers.start_within_s([(b"x-marq-start-before", b"+60")]) <= 60
    both = [(b"x-marq-start-before", b"+60"), (b"x-request-timeout", b"5")]
    assert job_headers.start_within_s(both) == 5


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (b"x-marq-priority", b"urgent", "priority must be one of high, normal, low, not 'urgent'"),
        (
            b"x-marq-prio",
            b"high",
            "Header x-marq-prio is not known; there are x-marq-input-url, x-marq-max-attempts, ",
        ),
        (b"x-marq-retries", b"many", "Header x-marq-retries must be a whole number, not 'many'"),
        (b"x-marq-not-before", b"soon", "Header x-marq-not-before must be a time such as"),
        (b"x-marq-not-before", b"inf", "Header x-marq-not-before must be a time such as"),
        (b"x-marq-result-ttl", b"nan", "Header x-marq-result-ttl must be a number of seconds, not 'nan'"),
        (b"x-marq-retry-on", b"5xx", "Header x-marq-retry-on must be statuses with commas"),
    ],
)
def test_a_wrong_header_is_refused_with_what_would_be_right(name, value, message):
    with pytest.raises(BadRequest) as refused:
        job_headers.options([(name, value)])
    assert message in refused.value.message


def test_a_start_in_the_past_is_refused():
    with pytest.raises(BadRequest, match="in the future"):
        job_headers.start_within_s([(b"x-marq-start-before", b"2020-01-01")])


@pytest.mark.parametrize(
    ("values", "wait_s"),
    [
        ([b"respond-async"], 0),
        ([b"respond-async, wait=10"], 10),
        ([b"return=minimal", b"Wait=5; x", b"Respond-Async"], 5),
        ([b"respond-async, wait=9999"], 60),
        ([b"wait=10"], None),
        ([], None),
    ],
)
def test_a_client_may_prefer_a_job(values, wait_s):
    assert job_headers.async_wait_s([(b"prefer", value) for value in values]) == wait_s
