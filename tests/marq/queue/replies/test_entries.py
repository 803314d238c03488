import pytest
from hypothesis import given
from hypothesis import strategies as st

from marq.errors import MalformedEntry
from marq.queue.replies.entries import Reply, decode_replies

REPLIES = st.lists(
    st.builds(
        Reply,
        id=st.binary(max_size=8), status=st.integers(200, 599), body=st.binary(max_size=20),
        headers=st.binary(max_size=8), more=st.booleans(),
    ),
    min_size=1,
)  # fmt: skip


@given(REPLIES)
def test_one_entry_may_hold_the_replies_of_a_whole_batch(replies):
    fields = [part for reply in replies for part in reply.fields()]
    assert decode_replies(fields) == replies


def test_a_reply_has_defaults_and_may_hold_fields_that_are_not_known():
    assert decode_replies([b"id", b"7", b"colour", b"red"]) == [Reply(b"7", 200, b"")]


def test_a_body_that_looks_like_a_field_is_a_body():
    replies = [Reply(b"id", 200, b"id"), Reply(b"status", 500, b"more")]
    assert decode_replies([*replies[0].fields(), *replies[1].fields()]) == replies


def test_what_is_no_reply_says_so():
    fields = [b"body", b"x", b"id", b"1"]
    with pytest.raises(MalformedEntry) as caught:
        decode_replies(fields)
    assert caught.value.fields == fields


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"status", b"fine"), (b"status", b""), (b"status", b"600"), (b"status", b"999"), (b"status", b"100"),
        (b"status", b"-1"), (b"status", b"9" * 5000), (b"more", b"x"), (b"more", b"9" * 5000),
    ],
)  # fmt: skip
def test_a_bad_reply_fails_its_own_request_only(name, value, caplog):
    bad, good = decode_replies([b"id", b"1", name, value, b"body", b"x", b"id", b"2", b"body", b"y"])
    assert (bad.id, bad.status, bad.more) == (b"1", 502, 0)
    assert good == Reply(b"2", 200, b"y")
    assert "request 1: " in caplog.text
