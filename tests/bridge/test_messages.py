"""Messages of kombu are read without trusting them."""

import base64
import json
from typing import Any

import pytest
from kombu import compression
from kombu.utils.json import dumps

from bridge.messages import Junk, Message, Refused, Task

HEADERS = {"id": "t1", "task": "marq.predict", "root_id": "r", "group": None, "ignore_result": False}


def envelope(body: bytes, /, headers: Any = HEADERS, **changes: Any) -> bytes:
    """A message as kombu stores it in Redis."""
    message = {
        "body": base64.b64encode(body).decode(),
        "content-type": "application/json", "content-encoding": "utf-8",
        "headers": headers, "properties": {"body_encoding": "base64", "priority": 3}, **changes,
    }  # fmt: skip
    return json.dumps(message).encode()


BODY = dumps(
    [["digits", b"\xff"], {"version": "1.0"}, {"chain": [{"task": "x"}], "callbacks": None}]
).encode()


def test_a_task_is_read_with_what_follows_it() -> None:
    task = Task.read(Message.of_redis(envelope(BODY)))
    assert (task.id, task.args, task.kwargs, task.priority) == (
        "t1",
        ["digits", b"\xff"],
        {"version": "1.0"},
        3,
    )
    kept = task.request
    assert (kept["id"], kept["root_id"], kept["chain"]) == ("t1", "r", [{"task": "x"}])
    assert "callbacks" not in kept


def test_a_compressed_body_is_read() -> None:
    body, method = compression.compress(BODY, "gzip")
    message = Message.of_redis(envelope(body, {**HEADERS, "compression": method}))
    assert Task.read(message).args[0] == "digits"


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff", b"5", b"[]", b"{}", envelope(BODY, properties=None), envelope(BODY, body=5)],
)
def test_what_is_not_an_envelope_is_junk(raw: bytes) -> None:
    with pytest.raises(Junk):
        Message.of_redis(raw)


@pytest.mark.parametrize("headers", [{}, [], {"id": 5}, {"id": ""}, {"id": "a b"}, {"id": "x" * 300}])
def test_a_message_without_a_usable_id_is_junk(headers: Any) -> None:
    with pytest.raises(Junk):
        Task.read(Message.of_redis(envelope(BODY, headers)))


@pytest.mark.parametrize(
    ("body", "changes", "reason"),
    [
        (BODY, {"content-type": "application/x-python-serialize"}, "are JSON"),
        (b"{", {}, "cannot be read"),
        (b"\xff", {}, "cannot be read"),
        (b"[1, 2, 3]", {}, "must be"),
        (b"[[], {}]", {}, "cannot be read"),
        (BODY, {"headers": {**HEADERS, "compression": "nonsense"}}, "cannot be read"),
        (BODY, {"headers": {**HEADERS, "task": None}}, "None"),
    ],
)
def test_a_task_that_cannot_be_read_is_refused_by_its_id(body: bytes, changes: Any, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        Task.read(Message.of_redis(envelope(body, **changes)))
    assert refused.value.request["id"] == "t1"
