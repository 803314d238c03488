import io
import json
import math
import sys

import numpy as np
import pytest
import torch

from marq.queue.entries import Request
from ts.context import RequestProcessor
from workers.handler import replies as responses
from workers.handler.replies import BatchFailed

LARGE = 1_000_000


def build(*values, set_up=lambda processors: None, max_size=LARGE):
    requests = [Request(b"%d-0" % i, "lane", b"", id=b"%d" % i) for i in range(len(values))]
    processors = [RequestProcessor({}) for _ in values]
    set_up(processors)
    return responses.build(requests, list(values), processors, max_size)


def only(value, **options):
    [reply] = build(value, **options)
    return reply


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ("größe", "größe".encode()),
        ("", b""),
        (b"\x00\xff", b"\x00\xff"),
        (bytearray(b"x"), b"x"),
        ({"a": [1, 2]}, b'{\n  "a": [\n    1,\n    2\n  ]\n}'),
        ({"ü": 1}, b'{\n  "\\u00fc": 1\n}'),
        ([], b"[]"),
        (None, b"null"),
        (True, b"true"),
        (3, b"3"),
        (1.5, b"1.5"),
        (math.nan, b"NaN"),
        ((1, 2), b"[\n  1,\n  2\n]"),
        (np.float64(0.5), b"0.5"),
    ],
)
def test_an_element_is_encoded_by_its_type(value, body):
    reply = only(value)
    assert (reply.status, reply.body, reply.headers) == (200, body, b"")


def test_a_tensor_is_saved():
    tensor = torch.arange(6).reshape(2, 3)
    assert torch.equal(torch.load(io.BytesIO(only(tensor).body)), tensor)


def test_without_torch_nothing_is_a_tensor(monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    assert only({"a": 1}).status == 200
    assert only(object()).status == 503


def circular():
    value: list[object] = []
    value.append(value)
    return value


def deep():
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [np.float32(1), np.zeros(2), object(), {1, 2}, {(1, 2): 3}, [b"x"], circular, deep, "\ud800"],
    ids=lambda value: value.__name__ if callable(value) else type(value).__name__,
)
def test_an_element_that_cannot_be_sent_fails_its_own_request_only(value):
    value = value() if callable(value) else value
    before, failed, after = build("a", value, "b")
    assert (before.body, after.body) == (b"a", b"b")
    assert failed.status == 503
    assert json.loads(failed.body) == {
        "code": 503, "type": "InternalServerException", "message": "Unsupported model output data type.",
    }  # fmt: skip
    assert json.loads(failed.headers) == {"content-type": "application/json"}


def test_a_tensor_that_cannot_be_saved_fails_its_own_request_only():
    class Unsaved(torch.Tensor):
        def __reduce_ex__(self, protocol):
            raise RuntimeError("no storage")

    failed, after = build(torch.zeros(1).as_subclass(Unsaved), "b")
    assert (failed.status, after.body) == (503, b"b")


def test_status_and_headers_are_those_of_each_request():
    def set_up(processors):
        processors[0].report_status(404, "gone")
        processors[0].add_response_property("content-type", "text/html")
        processors[1].report_status("201")

    first, second, third = build("own body", "", "", set_up=set_up)
    assert (first.status, first.body) == (404, b"own body")
    assert json.loads(first.headers) == {"content-type": "text/html"}
    assert (second.status, second.headers) == (201, b"")
    assert third.status == 200


@pytest.mark.parametrize("status", ["fine", None, [200], -1, 0, 100, 600, 999, 1000, float("inf")])
def test_a_status_that_is_none_fails_its_own_request_only(status):
    failed, after = build("a", "b", set_up=lambda processors: processors[0].report_status(status))
    assert (failed.status, after.status) == (503, 200)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nb: c"),
        ("x", "a\nb"),
        ("x", "a\0"),
        ("x\r\ny", "z"),
        ("x y", "z"),
        ("", "z"),
        ("\u0142", "z"),
        (1, "z"),
    ],
)
def test_a_header_that_would_split_the_answer_fails_its_own_request_only(name, value):
    failed, after = build(
        "a", "b", set_up=lambda processors: processors[0].add_response_property(name, value)
    )
    assert (failed.status, after.status) == (503, 200)
    assert json.loads(failed.headers) == {"content-type": "application/json"}


@pytest.mark.parametrize("value", ["\u20ac", "\ud800"])
def test_characters_outside_latin_1_are_replaced_in_header_values(value):
    reply = only("a", set_up=lambda processors: processors[0].add_response_property("x", f"\u00fc{value}"))
    assert (reply.status, json.loads(reply.headers)) == (200, {"x": "\u00fc?"})


@pytest.mark.parametrize(
    "name",
    [
        "Content-Length", "transfer-encoding", "Connection", "Keep-Alive", "TE", "Trailer", "Upgrade",
        "Cache-Control", "Expires", "Pragma", "X-Request-Id",
    ],
)  # fmt: skip
def test_a_header_of_the_server_s_own_is_dropped_with_a_warning(name, caplog):
    responses._encode_items.cache_clear()

    def set_up(processors):
        processors[0].add_response_property(name, "5")
        processors[0].add_response_property("x", "kept")

    assert json.loads(only("a", set_up=set_up).headers) == {"x": "kept"}
    assert f"{name} is dropped" in caplog.text


def test_of_two_spellings_of_a_header_the_last_one_is_sent():
    def set_up(processors):
        processors[0].add_response_property("content-type", "text/html")
        processors[0].add_response_property("Content-Type", "text/plain")

    assert json.loads(only("a", set_up=set_up).headers) == {"Content-Type": "text/plain"}


@pytest.mark.parametrize("status", [204, 205, 304])
def test_an_answer_whose_status_allows_no_body_has_none(status):
    reply = only("body", set_up=lambda processors: processors[0].report_status(status))
    assert (reply.status, reply.body) == (status, b"")


@pytest.mark.parametrize("value", [1, None, b"x"])
def test_a_header_that_is_no_text_fails_its_own_request_only(value):
    failed, after = build("a", "b", set_up=lambda processors: processors[0].add_response_property("x", value))
    assert (failed.status, after.status) == (503, 200)


def test_a_response_that_is_too_large_fails_its_own_request_only():
    fits, failed = build("x" * 10, "x" * 11, max_size=10)
    assert fits.status == 200
    assert failed.status == 500
    assert "The response has 11 bytes; max_response_size allows 10." in failed.body.decode()


@pytest.mark.parametrize("returned", [None, (1,), {"a": 1}, "x", torch.zeros(1), np.zeros(1), iter([1])])
def test_a_handler_must_return_a_list(returned):
    with pytest.raises(BatchFailed, match="Invalid model predict output") as caught:
        responses.check(returned, 1)
    assert caught.value.status == 503
    kind = type(returned).__name__
    assert (
        caught.value.message.splitlines()[1] == f"The handler returned {kind} for a batch of 1, not a list."
    )


@pytest.mark.parametrize("returned", [[], [1], [1, 2, 3]])
def test_a_list_must_have_one_element_for_each_row(returned):
    with pytest.raises(BatchFailed, match="number of batch response mismatched") as caught:
        responses.check(returned, 2)
    assert caught.value.status == 503
    came = f"a list of {len(returned)} for a batch of 2"
    assert caught.value.message.splitlines()[1] == f"The handler returned {came}."


def test_a_list_of_the_right_length_is_taken():
    returned = ["a", "b"]
    assert responses.check(returned, 2) is returned


def test_a_failure_is_told_to_every_request():
    requests = [Request(b"1-0", "l", b"", id=b"a"), Request(b"2-0", "l", b"", id=b"b")]
    replies = responses.failures(requests, 507, "Out of resources")
    assert [(reply.id, reply.status) for reply in replies] == [(b"a", 507), (b"b", 507)]
    assert replies[0].body.endswith(b'"message": "Out of resources"\n}\n')
