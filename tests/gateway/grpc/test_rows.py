import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.grpc.rows import body_of
from marq.errors import BadRequest
from marq.queue.entries import Request
from workers.handler import rows

# Names without control characters; replicas read the header of a part as text
NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=50)


def row_of(entries):
    """The handler's row and its headers for these entries."""
    body = body_of(entries)
    row, headers = rows.build(Request(b"1-0", "lane", body.content, type=body.type))
    return row, headers()


@settings(deadline=None)
@given(st.dictionaries(NAMES, st.binary(max_size=100), max_size=5))
def test_the_row_has_every_name_with_its_bytes(entries):
    row, headers = row_of(entries)
    assert row == entries
    assert all(isinstance(value, bytearray) for value in row.values())
    assert headers == {name: {"content-type": ""} for name in entries}


def test_values_may_look_like_the_end_of_a_part():
    entries = {"a": b"\r\n--marq-", "b": b"--\r\n", "c": body_of({"x": b"", "y": b""}).content}
    assert row_of(entries)[0] == entries


@pytest.mark.parametrize("name", ["a\r\nb", "a\0", "\x7f", "x" * 1001, "ü" * 501])
def test_a_name_that_cannot_be_a_key_is_refused(name):
    with pytest.raises(BadRequest, match="The name of an input must have at most 1000 bytes"):
        body_of({name: b"", "b": b""})
