from hypothesis import example, given, settings
from hypothesis import strategies as st

from marq import forms

BOUNDARY = b"b-1"
HEAD = b'\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
FILE = (
    b'\r\nContent-Disposition: form-data; name="f"; filename="a (1).png"\r\nContent-Type: Image/PNG\r\n\r\n'
)
UNTYPED = FILE.replace(b"\r\nContent-Type: Image/PNG", b"")
PIECES = st.sampled_from(
    [
        b"\r\n--b-1",
        b"--b-1",
        b"\r\n",
        b"--",
        b"x",
        b" ",
        b"\n",
        b"\0",
        b"-2",
        b'name="a"',
        b"; filename=f",
        HEAD,
        FILE,
        UNTYPED,
    ]
)


def read(body):
    """The names, types and contents as the full parser reads them, and its error."""
    parts, error = forms.parts(body, BOUNDARY)
    return [
        (forms.part_name(headers), forms.file_type(headers), content) for headers, content in parts
    ], error


@settings(deadline=None, max_examples=500)
@given(st.lists(PIECES, max_size=12).map(b"".join))
@example(b'--b-1\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b-1--\r\n')
@example(b'--b-1\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b-1--')
def test_plain_parts_are_those_of_the_full_parser(rest):
    for body in (rest, *(b"--b-1" + head + rest + b"\r\n--b-1--\r\n" for head in (HEAD, FILE, UNTYPED))):
        plain = forms.plain_parts(body, BOUNDARY)
        assert plain is None or (plain, "") == read(body)
        assert plain == forms.plain_parts(bytearray(body), BOUNDARY)


def test_a_form_without_files_is_plain():
    body = b"".join(
        b'--b-1\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % each
        for each in [(b"a", b""), (b"data", b"x--b-1\r\n\0"), (b"a", b"2")]
    )
    assert forms.plain_parts(body + b"--b-1--\r\n", BOUNDARY) == [
        ("a", "", b""),
        ("data", "", b"x--b-1\r\n\0"),
        ("a", "", b"2"),
    ]


def test_a_file_has_its_type():
    body = b"--b-1" + FILE + b"\r\r\n" + b"\r\n--b-1" + UNTYPED + b"\r\n--b-1--"
    assert forms.plain_parts(body, BOUNDARY) == [
        ("f", "image/png", b"\r\r\n"),
        ("f", "application/octet-stream", b""),
    ]


def test_a_form_of_too_many_fields_is_left_to_the_full_parser():
    body = b'--b-1\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 3 + b"--b-1--\r\n"
    assert forms.plain_parts(body, BOUNDARY, most=2) is None
    assert len(forms.plain_parts(body, BOUNDARY, most=3)) == 3
