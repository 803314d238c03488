"""The rules of HTTP for an answer: its status, its header lines, and whether it has a body (RFC 9110)."""

import re
from functools import lru_cache

FIRST_STATUS, LAST_STATUS = 200, 599  # of final answers
WITHOUT_BODY = frozenset((204, 205, 304))
WITHOUT_LENGTH = frozenset((204, 304))
# The server's own business, never a handler's: how a message travels over one connection, and what every
# answer has once
SERVERS_OWN = frozenset(
    (
        "connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade",
        "cache-control", "expires", "pragma", "x-request-id",
    )
)  # fmt: skip
_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


def is_final_status(status: int) -> bool:
    """Whether an answer can end a request with this status."""
    return FIRST_STATUS <= status <= LAST_STATUS


@lru_cache(maxsize=256)
def is_servers_own(name: str) -> bool:
    """Whether only the server can set this header."""
    return name.lower() in SERVERS_OWN


@lru_cache(maxsize=256)
def _is_name(name: str) -> bool:
    return _token(name) is not None


def header_fault(name: str, value: object) -> str:
    """Why a header line cannot be sent, or "". Characters outside Latin-1 in a value can be replaced."""
    if not _is_name(name):
        return f"{name!a:.60} is not a header name"
    if not isinstance(value, str):
        return f"the response header {name:.60} must be a str, not {type(value).__name__}"
    if not value.isprintable() and _control(value):  # the first is quicker, and stricter
        return f"the response header {name:.60} has a line break or another control character"
    return ""
