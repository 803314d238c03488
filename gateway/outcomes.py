"""How requests to the management API end: with JSON, a word on their outcome, or a failed start."""

from typing import Any

from fastapi import Response

from marq.errors import ServiceError, pretty


def json_answer(value: Any, status: int = 200) -> Response:
    return Response(pretty(value), status, media_type="application/json")


def outcome(text: str, status: int = 200) -> Response:
    """A sentence on what was done."""
    return json_answer({"status": text}, status)


def start_failed(name: str, version: str, reason: str) -> ServiceError:
    """500, or 507 if the handler ran out of memory (of the device, too), as TorchServe judges it."""
    text = f"Failed to start workers for model {name} version: {version}\n{reason}"
    last = next((line for line in reversed(reason.splitlines()) if line.strip()), "")
    memory = last.startswith("MemoryError") or (last.startswith("RuntimeError") and "CUDA" in last)
    return ServiceError(text, 507 if memory else None)
