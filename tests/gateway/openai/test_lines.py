"""The lines of a batch's input file."""

import json

import pytest

from gateway.openai import lines

CHAT = "/v1/chat/completions"


def line(custom_id: object, model: object = "m", **changes: object) -> bytes:
    asked = {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": {"model": model}, **changes}
    return json.dumps(asked).encode()


@pytest.fixture
def file(tmp_path):
    def write(*rows: bytes):
        path = tmp_path / "in.jsonl"
        path.write_bytes(b"\n".join(rows))
        return path

    return write


def test_a_good_file_has_a_model_and_lines(file) -> None:
    path = file(line("a"), b"", b"  ", line("b"))
    found = lines.check(path, CHAT, 1000)
    assert (found.model, found.total, found.errors) == ("m", 2, [])
    assert lines.first_model(path) == "m"
    [some] = lines.read(path)
    assert [(each.number, each.custom_id, each.body) for each in some] == [
        (1, "a", b'{"model":"m"}'),
        (2, "b", b'{"model":"m"}'),
    ]


def test_lines_are_read_in_bounded_groups(file) -> None:
    path = file(*(line(str(number)) for number in range(250)))
    assert [len(some) for some in lines.read(path)] == [100, 100, 50]
    path = file(*(line(str(number), x="y" * 600_000) for number in range(4)))
    assert [len(some) for some in lines.read(path)] == [2, 2]


@pytest.mark.parametrize(
    ("row", "code", "right"),
    [
        (b"[1]", "invalid_json_line", "must be a JSON object"),
        (b"{", "invalid_json_line", "is not JSON"),
        (b'"%b"' % (b"x" * 2000), "line_too_long", "more than 1000 bytes"),
        (line(7), "missing_required_parameter", "1 to 512 characters"),
        (line("x" * 513), "missing_required_parameter", "1 to 512 characters"),
        (line("first"), "duplicate_custom_id", "earlier line"),
        (line("a", method="PUT"), "invalid_method", '"POST"'),
        (line("a", url="/v1/other"), "mismatched_endpoint", CHAT),
        (line("a", body=[]), "invalid_request", "JSON object"),
        (line("a", model=None), "missing_required_parameter", "name of a registered model"),
        (line("a", model="other"), "mismatched_model", "must be m"),
        (line("a", body={"model": "m", "stream": True}), "invalid_request", "stream"),
    ],
)
def test_a_bad_line_is_named_with_what_would_be_right(file, row, code, right) -> None:
    found = lines.check(file(line("first"), row), CHAT, 1000)
    [error] = found.errors
    assert (error["line"], error["code"]) == (2, code)
    assert right in str(error["message"])


def test_there_is_a_limit_of_lines_and_of_errors(file, monkeypatch) -> None:
    monkeypatch.setattr(lines, "MOST_LINES", 3)
    found = lines.check(file(*(line(str(number)) for number in range(5))), CHAT, 1000)
    assert [error["code"] for error in found.errors] == ["too_many_tasks"]
    monkeypatch.undo()
    assert len(lines.check(file(*[b"{"] * 100), CHAT, 1000).errors) == lines.MOST_ERRORS
    assert [error["code"] for error in lines.check(file(), CHAT, 1000).errors] == ["empty_file"]
    assert lines.first_model(file(b"{")) == ""
