"""Token authorization: one token for each plane, kept in Redis so that all gateways agree."""

import hmac
import json
import re
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marq import keys
from marq.errors import InvalidToken

INFERENCE, MANAGEMENT, API = "inference", "management", "API"
EXPIRING = (INFERENCE, MANAGEMENT)
NEVER = "0"
KEY_FILE = "key_file.json"
FAILED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
_BEARER = re.compile(rb"^Bearer\s+(\S+)$")


class Tokens:
    """Checks `Authorization: Bearer` headers; `required` is False where authorization is off."""

    def __init__(self, required: bool) -> None:
        self.required = required
        self._tokens: dict[str, bytes] = {}
        self._expires_ms: dict[str, int] = {}

    def use(self, stored: dict[bytes, bytes]) -> None:
        """Takes the tokens as they are in Redis."""
        for plane in (*EXPIRING, API):
            self._tokens[plane] = stored.get(plane.encode(), b"")
            self._expires_ms[plane] = int(stored.get(f"{plane}:expires".encode(), 0))

    def check(self, plane: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises InvalidToken unless the headers carry the plane's current token."""
        given = next((value for name, value in headers if name == b"authorization"), b"")
        match, expected = _BEARER.match(given), self._tokens.get(plane, b"")
        if not match or not expected or not hmac.compare_digest(match[1], expected):
            raise InvalidToken(FAILED)
        expires_ms = self._expires_ms[plane]
        if expires_ms and time.time() * 1000 > expires_ms:
            raise InvalidToken(FAILED)


def write_key_file(directory: Path, client: Any) -> None:
    """Writes the tokens as TorchServe's scripts expect them, readable by the user alone."""
    stored = {name.decode(): value.decode() for name, value in client.hgetall(keys.TOKENS).items()}
    content: dict[str, dict[str, str]] = {plane: {"key": stored[plane]} for plane in (*EXPIRING, API)}
    for plane in EXPIRING:
        if stored[f"{plane}:expires"] == NEVER:
            continue
        expires = datetime.fromtimestamp(int(stored[f"{plane}:expires"]) / 1000, UTC)
        content[plane]["expiration time"] = expires.isoformat().replace("+00:00", "Z")
    path = directory / KEY_FILE
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(content, indent=2))


def create(client: Any, expiration_min: float) -> dict[str, str]:
    """Makes new tokens for all planes and stores them; returns them by plane. 0 minutes: no expiry."""
    tokens = {plane: secrets.token_urlsafe(24) for plane in (*EXPIRING, API)}
    expires = str(int((time.time() + expiration_min * 60) * 1000)) if expiration_min else NEVER
    client.hset(keys.TOKENS, mapping={**tokens, **{f"{plane}:expires": expires for plane in EXPIRING}})
    return tokens
