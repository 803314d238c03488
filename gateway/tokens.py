"""Token authorization: one token for each plane, kept in Redis so that all gateways agree.

A host's own commands have a token that is good for both planes and does not expire. It lies in the server
file, next to the Redis URL, and reaches the host's gateways through their environment.
"""

import asyncio
import hmac
import json
import os
import re
import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from marq import connection, keys
from marq.broker import Broker
from marq.errors import InvalidToken

INFERENCE, MANAGEMENT, API = "inference", "management", "API"
EXPIRING = (INFERENCE, MANAGEMENT)
NEVER = "0"
KEY_FILE = "key_file.json"
FAILED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
NOT_RENEWED = "Token Authentication failed. Token either incorrect, expired, or not provided correctly"
_BEARER = re.compile(rb"^Bearer\s+(\S+)$")


class Tokens:
    """Checks `Authorization: Bearer` headers; `required` is False where authorization is off.

    `local` is the token of this host's own commands; empty if they have none.
    """

    def __init__(self, required: bool, local: str = "") -> None:
        self.required = required
        self._local = local.encode()
        self._tokens: dict[str, bytes] = {}
        self._expires_ms: dict[str, int] = {}

    def use(self, stored: dict[bytes, bytes]) -> bool:
        """Takes the tokens as they are in Redis; whether they are other ones than before."""
        before = dict(self._tokens)
        for plane in (*EXPIRING, API):
            self._tokens[plane] = stored.get(plane.encode(), b"")
            self._expires_ms[plane] = int(stored.get(f"{plane}:expires".encode(), 0))
        return self._tokens != before

    def check(self, plane: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Raises InvalidToken unless the headers carry the plane's current token."""
        given = next((value for name, value in headers if name == b"authorization"), b"")
        match = _BEARER.match(given)
        if not match:
            raise InvalidToken(FAILED)
        if _is(match[1], self._tokens.get(plane, b"")) and not self._has_expired(plane):
            return
        if plane == API or not _is(match[1], self._local):
            raise InvalidToken(FAILED)

    def _has_expired(self, plane: str) -> bool:
        expires_ms = self._expires_ms[plane]
        return bool(expires_ms) and time.time() * 1000 > expires_ms


def _is(given: bytes, expected: bytes) -> bool:
    return bool(expected) and hmac.compare_digest(given, expected)


def create(client: Any, expiration_min: float) -> None:
    """Makes new tokens for all planes and stores them. 0 minutes: no expiry."""
    tokens = {plane: _new() for plane in (*EXPIRING, API)}
    expires = {f"{plane}:expires": _expiry(expiration_min) for plane in EXPIRING}
    client.hset(keys.TOKENS, mapping=tokens | expires)


def renew(client: Any, plane: str, expiration_min: float) -> None:
    """Makes a new token for one of the planes that expire, and wakes all gateways."""
    client.hset(keys.TOKENS, mapping={plane: _new(), f"{plane}:expires": _expiry(expiration_min)})
    client.xadd(keys.MANAGEMENT, {"action": "renew-token", "plane": plane}, maxlen=1000, approximate=True)


def new_local_token() -> str:
    """A token for this host's own commands."""
    return _new()


def _new() -> str:
    return secrets.token_urlsafe(24)


def _expiry(expiration_min: float) -> str:
    return str(int((time.time() + expiration_min * 60) * 1000)) if expiration_min else NEVER


def write_key_file(directory: Path, client: Any) -> None:
    """Writes the tokens as TorchServe's scripts expect them, readable by the user alone, in one step."""
    stored = {name.decode(): value.decode() for name, value in client.hgetall(keys.TOKENS).items()}
    content: dict[str, dict[str, str]] = {plane: {"key": stored[plane]} for plane in (*EXPIRING, API)}
    for plane in EXPIRING:
        if stored[f"{plane}:expires"] == NEVER:
            continue
        expires = datetime.fromtimestamp(int(stored[f"{plane}:expires"]) / 1000, UTC)
        content[plane]["expiration time"] = expires.isoformat().replace("+00:00", "Z")
    path = directory / f".{KEY_FILE}.{os.getpid()}"
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(content, indent=2))
    path.replace(directory / KEY_FILE)


class TokenFollower:
    """Keeps up with tokens that were renewed, here or on another host.

    Called whenever something may have changed; rewrites the key file if it `writes_file`.
    """

    def __init__(self, tokens: Tokens, broker: Broker, redis_url: str, writes_file: bool) -> None:
        self._tokens, self._broker, self._redis_url = tokens, broker, redis_url
        self._writes_file = writes_file

    async def __call__(self) -> None:
        """Raises ServiceUnavailable while Redis is gone."""
        if not self._tokens.required:
            return
        flat = await self._broker.execute("HGETALL", keys.TOKENS)
        changed = self._tokens.use(dict(zip(flat[::2], flat[1::2], strict=True)))
        if changed and self._writes_file:
            await asyncio.to_thread(self._write)

    def _write(self) -> None:
        with connection.client(self._redis_url) as client:
            write_key_file(Path.cwd(), client)
