"""Counts what the model's own version of tinytext counts."""

import tinytext


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    """Answers `{"tinytext": "1.0", "count": 11}` for the text `hello world`."""
    if data is None:
        return None
    return [{"tinytext": tinytext.VERSION, "count": tinytext.count(_text(row))} for row in data]


def _text(row):
    body = row.get("data") or row.get("body") or ""
    return body if isinstance(body, str) else bytes(body).decode(errors="replace")
