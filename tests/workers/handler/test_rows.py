import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marq import forms
from marq.errors import RequestTooLarge
from marq.queue.entries import Request
from workers.handler import rows


def request(
    body: bytes, kind: str | bytes = b"", headers: object = None, path: bytes | None = None
) -> Request:
    encoded = kind if isinstance(kind, bytes) else kind.encode()
    stored = b"" if headers is None else json.dumps(headers).encode()
    return Request(b"1-0", "lane", body, id=b"7", type=encoded, headers=stored, path=path)


def row(body: bytes, kind: str | bytes = b"", decode_input: bool = True) -> rows.Row:
    return rows.build(request(body, kind), decode_input)[0]


def form(*parts: str, boundary: str = "b", end: str = "--") -> bytes:
    """A multipart body of parts whose lines are written with plain newlines."""
    text = "".join(f"--{boundary}\n{part}\n" for part in parts) + f"--{boundary}{end}\n"
    return text.replace("\n", "\r\n").encode()


def part(name: str, content: str, filename: str | None = None, kind: str | None = None) -> str:
    file = "" if filename is None else f'; filename="{filename}"'
    content_type = "" if kind is None else f"Content-Type: {kind}\n"
    return f'Content-Disposition: form-data; name="{name}"{file}\n{content_type}\n{content}'


MULTIPART = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        (b'{"a": [1, null]}', "application/json", {"a": [1, None]}),
        (b"3", "application/json; charset=utf-8", 3),
        (b"null", "application/json", None),
        ("größe".encode(), "text/plain", "größe"),
        (b"<a/>", "text/html; charset=utf-8", "<a/>"),
        (b"x", "text", "x"),
        (b"\x00\xff", "application/octet-stream", bytearray(b"\x00\xff")),
        (b"\x89PNG", "image/png", bytearray(b"\x89PNG")),
        (b"{}", "", bytearray(b"{}")),
        (b"{}", "application/jsonl", bytearray(b"{}")),
        (b"{}", "application/vnd.api+json", bytearray(b"{}")),
        (b"", "", bytearray()),
        # what cannot be decoded is passed as it came
        (b'{"a": ', "application/json", bytearray(b'{"a": ')),
        (b"", "application/json", bytearray()),
        (b"\xff", "application/json", bytearray(b"\xff")),
        (b"\xff", "text/plain", bytearray(b"\xff")),
        (b"1" * 5000, "application/json", bytearray(b"1" * 5000)),
        (b"[" * 100_000, "application/json", bytearray(b"[" * 100_000)),
    ],
)
def test_a_raw_body_is_decoded_by_its_content_type(body, kind, value):
    decoded = row(body, kind)["body"]
    assert decoded == value
    assert type(decoded) is type(value)


def test_a_body_that_cannot_be_decoded_is_told(caplog):
    row(b"{", "application/json")
    assert "application/json" in caplog.text


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_decoding_can_be_switched_off(kind):
    assert row(b'"x"', kind, decode_input=False) == {"body": bytearray(b'"x"')}
    parts = form(part("f", '"x"', "a", kind))
    assert row(parts, MULTIPART, decode_input=False) == {"f": bytearray(b'"x"')}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"a=1&b=two+words", {"a": b"1", "b": b"two words"}),
        (b"a=%C3%BC&%C3%BC=%26%3D", {"a": "ü".encode(), "ü": b"&="}),
        (b"a=1&a=2", {"a": b"2"}),
        (b"a&b=&=c&&", {"a": b"", "b": b""}),
        (b"a=b=c", {"a": b"b=c"}),
        (b"", {}),
    ],
)
@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "Application/X-WWW-Form-Urlencoded;a=b"]
)
def test_a_form_gives_one_value_for_each_field(body, fields, kind):
    made = row(body, kind)
    assert made == fields
    assert all(type(value) is bytearray for value in made.values())


def test_a_part_with_a_file_name_is_decoded_by_its_own_content_type():
    body = form(
        part("json", '{"a": 1}', "a.json", "application/json"),
        part("text", "hi", "a.txt", "text/plain; charset=utf-8"),
        part("image", "png", "a.png", "image/png"),
        part("nothing", "x", "a"),
        part("empty name", "x", "", "text/plain"),
        part("broken", "{", "b.json", "application/json"),
    )
    assert row(body, MULTIPART) == {
        "json": {"a": 1}, "text": "hi", "image": bytearray(b"png"), "nothing": bytearray(b"x"),
        "empty name": "x", "broken": bytearray(b"{"),
    }  # fmt: skip


def test_a_part_without_a_file_name_is_bytes_whatever_it_says_to_be():
    made = row(form(part("a", "1"), part("b", "{}", kind="application/json")), MULTIPART)
    assert made == {"a": bytearray(b"1"), "b": bytearray(b"{}")}
    assert {type(value) for value in made.values()} == {bytearray}


def test_of_parts_with_the_same_name_the_last_one_counts():
    body = form(part("a", "first", "f", "text/plain"), part("a", "second"))
    assert row(body, MULTIPART) == {"a": bytearray(b"second")}


def test_a_part_without_a_name_is_left_out():
    body = form("Content-Type: text/plain\n\nx", part("a", "1"))
    assert row(body, MULTIPART) == {"a": bytearray(b"1")}


def test_parts_may_hold_line_ends_and_what_looks_like_a_boundary():
    body = form(part("a", "one\n--not-b\n\ntwo\n"))
    assert row(body, MULTIPART) == {"a": bytearray(b"one\r\n--not-b\r\n\r\ntwo\r\n")}


@pytest.mark.parametrize(
    "kind",
    [
        'multipart/form-data; boundary="b"',
        "Multipart/Form-Data; boundary=b",
        "multipart/form-data; Boundary=b",
    ],
)
def test_a_multipart_type_may_be_written_in_several_ways(kind):
    assert row(form(part("a", "1")), kind) == {"a": bytearray(b"1")}


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; my-boundary=b"],
)
def test_without_a_boundary_the_body_is_passed_as_it_came(kind):
    assert row(b"--b\r\n", kind) == {"body": bytearray(b"--b\r\n")}


@pytest.mark.parametrize(
    "body",
    [
        form(part("a", "1")).replace(b"--b--", b""),
        form(part("a", "1")) + b"--b garbage",
        form(part("a", "1"), end="\nbroken header\n\nx"),
    ],
)
def test_of_a_broken_multipart_body_what_could_be_read_is_passed(body):
    made = row(body, MULTIPART)
    assert set(made) <= {"a"}


def test_a_broken_multipart_body_is_told(caplog):
    made = row(form(part("a", "1")).replace(b"--b--", b"--b") + b"no colon here\r\n\r\nx", MULTIPART)
    assert made == {"a": bytearray(b"1")}
    assert "request 7: the handler gets only part of its multipart body" in caplog.text


@given(
    st.binary(max_size=200),
    st.one_of(
        st.sampled_from(("application/json", "text/x", "application/x-www-form-urlencoded", MULTIPART)).map(
            str.encode
        ),
        st.binary(max_size=30).map(lambda rest: b"multipart/form-data; boundary=" + rest),
        st.binary(max_size=30),
    ),
)
def test_whatever_comes_gives_a_row(body, kind):
    made, headers = rows.build(request(body, kind))
    assert isinstance(made, dict)
    assert set(made) <= set(headers())


@given(st.lists(st.tuples(st.sampled_from("abc"), st.text("x\r\n-b", max_size=8)), max_size=4))
def test_parts_are_read_as_they_were_written(parts):
    written = b"".join(
        b'--BND\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), value.encode())
        for name, value in parts
    )
    made = row(written + b"--BND--\r\n", "multipart/form-data; boundary=BND")
    assert made == {name: value.encode() for name, value in parts}


@pytest.mark.parametrize(
    ("body", "kind", "made"),
    [
        (b"x", "text/plain", {"size": b"3", "mode": b"", "body": "x"}),
        (b"size=4", forms.FORM, {"size": b"4", "mode": b""}),
    ],
)
def test_parameters_are_keys_of_the_row_and_the_body_wins(body, kind, made):
    asked = request(body, kind)
    asked.params = b"size=3&mode"
    row, headers = rows.build(asked)
    assert row == made
    assert type(row["size"]) is type(row["mode"]) is bytearray
    assert headers()["mode"] == {"content-type": ""}


# headers


def headers(*arguments, **options) -> rows.Headers:
    return rows.build(request(*arguments, **options))[1]()


def test_headers_are_a_dict_with_the_names_that_the_client_sent():
    seen = headers(b"", headers={"Content-Type": "text/plain", "X-Mixed": "1"})
    assert type(seen) is dict
    assert json.loads(json.dumps(seen)) == seen | {"X-Mixed": "1", "Content-Type": "text/plain"}
    assert "x-mixed" not in seen


def test_each_parameter_has_its_content_type():
    body = form(part("f", "{}", "a", "application/json"), part("p", "1"))
    seen = headers(body, MULTIPART, headers={"x": "1"})
    assert dict(seen) == {"f": {"content-type": "application/json"}, "p": {"content-type": ""}, "x": "1"}
    assert headers(b"", "text/plain; charset=utf-8")["body"] == {"content-type": "text/plain"}
    assert headers(b"a=1", forms.FORM)["a"] == {"content-type": ""}


def test_the_path_is_told_where_the_client_had_one():
    assert headers(b"", path=b"a/b")["url_path"] == "a/b"
    assert dict(headers(b"", path=b"")) == {
        "body": {"content-type": ""}, "url_path": "", "explain": "False",
    }  # fmt: skip
    assert "url_path" not in headers(b"")
    assert headers(b"", path=b"", headers={"explain": "True"})["explain"] == "True"


def test_all_headers_can_be_listed():
    seen = headers(b"", headers={"a": "1"})
    assert list(seen) == ["body", "a"]


@pytest.mark.parametrize("stored", [b"{", b"[1]", b'"x"', b"\xff", b"[" * 100_000])
def test_headers_that_are_no_json_object_are_left_out_and_told(stored, caplog):
    broken = request(b"")
    broken.headers = stored
    seen = rows.build(broken)[1]()
    assert list(seen) == ["body"]
    assert "request 7: its headers are ignored, they are not a JSON object" in caplog.text


@pytest.mark.parametrize(
    ("kind", "allowed", "refused", "reason"),
    [
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 5), b"&".join([b"a=1"] * 6), "5 fields"),
        ("application/x-www-form-urlencoded", b"&" * 4, b"&" * 3_000_000, "5 fields"),
        (MULTIPART, form(*[part("f", "1")] * 5), form(*[part("f", "1")] * 6), "5 fields"),
        (MULTIPART, form(*[part("f", "--b--b--b--b")] * 5), form(*[part("f", "")] * 100_000), "5 fields"),
    ],
)  # fmt: skip
def test_forms_without_end_are_refused(kind, allowed, refused, reason):
    """However an entry came into the queue: gateways look into the forms of /invocations only."""
    rows.build(request(allowed, kind), most_fields=5)
    with pytest.raises(RequestTooLarge) as caught:
        rows.build(request(refused, kind), most_fields=5)
    assert (caught.value.status, reason in caught.value.message) == (413, True)


@pytest.mark.parametrize("headers", ["X: x" + "; a" * 1_000_000 + "\n", "a: b\n" * 1_000_000])
def test_headers_of_a_part_without_end_are_not_read(headers):
    """Their parameters would be read in a time that grows by the square of their number."""
    assert row(form(part("a", "1"), headers + part("f", "2"), part("c", "3")), MULTIPART) == {
        "a": bytearray(b"1")
    }


def test_so_are_parameters_without_end():
    few, many = (Request(b"1-0", "lane", b"", id=b"7", params=b"&".join([b"a=1"] * n)) for n in (5, 6))
    assert rows.build(few, most_fields=5)[0]["a"] == bytearray(b"1")
    with pytest.raises(RequestTooLarge):
        rows.build(many, most_fields=5)
