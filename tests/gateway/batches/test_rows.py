"""The bodies of a batch, however the request is cut into pieces."""

import pytest

from gateway.batches.rows import Fault, Lines, Parts, Row
from marq.errors import BadRequest

JSON = b"application/json"


def read(reader, body: bytes, step: int) -> list:
    found = []
    for start in range(0, len(body), step):
        found += reader.feed(body[start : start + step])
    return [*found, *reader.close()]


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_lines(step: int) -> None:
    rows = read(Lines(10), b'{"a": 1}\r\n\n  \n[2]\n"%b"\n3' % (b"x" * 20), step)
    assert rows[:2] == [Row(1, b'{"a": 1}', JSON), Row(4, b"[2]", JSON)]
    fault = rows[2]
    assert isinstance(fault, Fault)
    assert (fault.number, fault.error.status) == (5, 413)
    assert "22 bytes; one body of a batch may have 10" in fault.error.message
    assert rows[3:] == [Row(6, b"3", JSON)]


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="a"\r\nContent-Type: text/plain\r\n\r\none\r\n'
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\x00\n\r\n'
    b"--b\r\n\r\n0123456789+\r\n--b--\r\n"
)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_parts(step: int) -> None:
    first, second, third = read(Parts(b"b", 10), MULTIPART, step)
    assert first == Row(1, b"one", b"text/plain")
    assert second == Row(2, b"\x00\n", b"application/octet-stream")
    assert (third.number, third.error.status) == (3, 413)


def test_a_multipart_body_that_ends_too_early_or_is_none() -> None:
    with pytest.raises(BadRequest, match="ends before its last boundary"):
        read(Parts(b"b", 10), MULTIPART[:-10], 1000)
    with pytest.raises(BadRequest, match="cannot be read"):
        read(Parts(b"b", 10), b"no multipart at all", 1000)
