import time

import pytest

from marq.errors import BadRequest
from marq.jobs.options import JobOptions


def test_options_are_fields_of_the_entry():
    times = ("high", ("a", "b", "a"), 1.5, 60, 3, 2, (500, 503, 500), 0.25)
    options = JobOptions(*times, "https://example.org/", ("failed", "expired"))
    flat = options.fields
    assert dict(zip(flat[::2], flat[1::2], strict=True)) == {
        b"tags": b"a,b", b"not_before": b"1500", b"result_ttl": b"60000", b"max_attempts": b"3",
        b"retries": b"2", b"retry_on": b"500,503", b"retry_delay": b"250",
        b"webhook": b"https://example.org/", b"webhook_events": b"failed,expired",
    }  # fmt: skip
    assert JobOptions().fields == ()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": "urgent"}, "priority must be one of high, normal, low, not 'urgent'"),
        ({"tags": ("a b",)}, "tags must be up to 8 texts"),
        ({"tags": tuple(map(str, range(9)))}, "tags must be up to 8 texts"),
        ({"result_ttl": 0.5}, "result_ttl must be seconds from 1 to 7776000, not 0.5"),
        ({"max_attempts": 0}, "max_attempts must be a whole number from 1 to 100, not 0"),
        ({"retries": 101}, "retries must be a whole number from 0 to 100, not 101"),
        ({"retries": 1, "retry_on": (200,)}, "retry_on must be statuses from 400 to 599, not 200"),
        ({"retry_on": (500,)}, "retry_on and retry_delay have no effect without retries"),
        ({"retry_delay": 1.0}, "retry_on and retry_delay have no effect without retries"),
        (
            {"not_before": time.time() + 367 * 86_400},
            "not_before must be a time in unix seconds within a year",
        ),
        ({"input_url": ""}, "input_url must be a URL such as https://example.org/path"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range(options, message):
    with pytest.raises(BadRequest) as refused:
        JobOptions(**options)
    assert refused.value.message.startswith(message)
