import pytest

from marq.contract import lines
from marq.contract.checking import check
from marq.errors import BadRequest

LANE = "marq:{m}:normal:1.0"


def entry(**fields):
    given = {"body": "x", "reply": "mine", **fields}
    return [each.encode() for pair in given.items() for each in pair]


@pytest.mark.parametrize(
    ("fields", "warning"),
    [
        (entry(attempts="1"), "written by marq"),
        (entry(bodyy="x"), "did you mean `body`"),
        (entry(zzzzzz="x"), "is not a field: ignored"),
        ([*entry(), b"body", b"y"], "`body` comes 2 times: the last one counts"),
        (entry(job="yes"), "no effect unless it is 1"),
        (entry(retries="2"), "`job` must be 1"),
        (entry(job="1", retries="two"), "must be a whole number"),
        (entry(job="1", not_before="1"), "submit.lua"),
        (entry(headers="{"), "not a JSON object"),
        (entry(headers="[" * 100_000), "not a JSON object"),
        (entry(deadline="1"), "has passed"),
        (entry(trace="00-1"), "no effect yet"),
    ],
)
def test_what_has_no_effect_is_said(fields, warning):
    verdict = check(LANE, fields)
    assert verdict.is_good
    assert [warning in each for each in verdict.warnings] == [True]


def test_a_lane_may_be_that_of_the_default_version():
    assert check("marq:{digits}:high", [b"body", b"x", b"reply", b"mine"]).is_good
    assert "is not a lane" in check("marq:{digits}:urgent", [b"body", b"x", b"reply", b"mine"]).fault


def test_without_a_lane_only_the_fields_are_judged():
    assert check("", entry()).is_good
    assert check("", [b"reply", b"mine"]).fault == "the field `body` is missing."


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "must be an object"),
        ('{"fields": []}', "must be an object"),
        ('{"lane": 1, "fields": {}}', "lane must be a text"),
        ('{"fields": {"body": 1}}', "must be a text or"),
        ('{"fields": {"body": {"base64": "?"}}}', "is not base64"),
        ('{"fields": {"body": {"base64": "", "b": 1}}}', "must be a text or"),
    ],
)
def test_a_line_that_is_not_an_entry_is_refused(line, reason):
    with pytest.raises(BadRequest, match=reason):
        lines.parse(line)
