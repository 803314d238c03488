import time

import pytest

from gateway.inference import deadlines
from marq.errors import BadRequest


def header(value: bytes):
    return [(b"host", b"x"), (b"x-request-timeout", value)]


@pytest.mark.parametrize(
    ("headers", "limit_ms", "wanted"),
    [
        ([(b"host", b"x")], 0, None),
        ([], 1500, 1.5),
        (header(b"2.5"), 0, 2.5),
        (header(b"2.5"), 1500, 1.5),
        (header(b" 1 "), 1500, 1.0),
        (header(b"1e3"), 0, 1000.0),
        (header(b"31622400"), 0, 31_622_400.0),
    ],
)
def test_the_shorter_time_out_counts(headers, limit_ms, wanted):
    assert deadlines.timeout_s(headers, limit_ms) == wanted


@pytest.mark.parametrize("value", [b"", b"soon", b"0", b"-1", b"nan", b"inf", b"31622401", b"\xff"])
def test_what_is_not_a_number_of_seconds_is_refused(value):
    with pytest.raises(BadRequest, match="X-Request-Timeout must be a number of seconds above 0") as refusal:
        deadlines.timeout_s(header(value), 1500)
    assert refusal.value.status == 400
    assert "b'" not in refusal.value.message


def test_a_deadline_is_a_moment():
    before = time.time()
    moment = int(deadlines.deadline(2.5)) / 1000
    assert before + 2.499 <= moment <= time.time() + 2.5
    assert deadlines.deadline(None) == b""
