"""Responses of the management API."""

from typing import Any

from fastapi import Response

from marq.errors import pretty


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(pretty(value), status, media_type="application/json")


def outcome(text: str, status: int = 200) -> Response:
    """A sentence on what was done."""
    return json_answer({"status": text}, status)
