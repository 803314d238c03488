import pytest

from marq.errors import BadRequest
from marq.jobs.options import JobOptions
from marq.webhooks.urls import LONGEST_URL


@pytest.mark.parametrize(
    "url", ["https://example.org", "http://[::1]:8080/a?b=c", "https://h.org/" + "a" * 2034]
)
def test_a_url_that_can_be_sent_to_is_taken(url):
    assert JobOptions(webhook=url).fields == (b"webhook", url.encode())


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "ftp://example.org", "file:///etc/passwd", "http://", "http:///path",
        "http://user:secret@example.org/", "http://example.org/\r\nX-Evil: 1", "http://example.org/a b",
        "http://exämple.org", "http://example.org:99999/", "http://example.org:0/", "http://[::1/",
    ],
)  # fmt: skip
def test_another_text_is_refused_with_what_is_right(url):
    with pytest.raises(BadRequest, match=r"webhook must be a URL such as https://example\.org/path"):
        JobOptions(webhook=url)


def test_a_long_url_is_refused_with_the_limit():
    with pytest.raises(BadRequest, match="up to 2048 characters, not of 2049"):
        JobOptions(webhook="http://example.org/".ljust(LONGEST_URL + 1, "a"))


def test_events_are_states_in_which_jobs_end():
    options = JobOptions(webhook="http://example.org", webhook_events=("failed", "expired"))
    assert options.fields[2:] == (b"webhook_events", b"failed,expired")
    with pytest.raises(BadRequest, match="some of cancelled, expired, failed, succeeded, not 'done'"):
        JobOptions(webhook="http://example.org", webhook_events=("done",))
    with pytest.raises(BadRequest, match="no effect without webhook"):
        JobOptions(webhook_events=("failed",))
