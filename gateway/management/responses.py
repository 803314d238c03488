"""Responses of the management API."""

from fastapi import Response

from marq.errors import pretty


def json_answer(value: object, status: int = 200) -> Response:
    return Response(pretty(value), status, media_type="application/json")


def outcome(text: str, status: int = 200) -> Response:
    """An answer that reports the outcome in one sentence."""
    return json_answer({"status": text}, status)
