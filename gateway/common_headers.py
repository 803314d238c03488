"""The headers of every HTTP answer, whichever way it takes: a new one is added here."""

REQUEST_ID = b"x-request-id"
COMMON = [
    (b"pragma", b"no-cache"),
    (b"cache-control", b"no-cache; no-store, must-revalidate, private"),
    (b"expires", b"Thu, 01 Jan 1970 00:00:00 UTC"),
]


def of_answer(request_id: bytes) -> list[tuple[bytes, bytes]]:
    """All of them, for the answer to one request."""
    return [(REQUEST_ID, request_id), *COMMON]
