"""Token authorization of requests: one token for each plane, the same in all gateways."""

import asyncio
import hmac
import logging
import re
import time
from pathlib import Path

from marq import keys
from marq.connections import clients
from marq.errors import InvalidToken
from marq.plugins.protocols import Access, Headers
from marq.queue.broker import Broker
from marq.registry.token_store import KEY_FILE, write_key_file
from marq.token_planes import API, EXPIRING, INFERENCE

log = logging.getLogger(__name__)

AUTHORIZATION = b"authorization"
FAILED = "Token Authorization failed. Token either incorrect, expired, or not provided correctly"
NOT_RENEWED = "Token Authentication failed. Token either incorrect, expired, or not provided correctly"
_BEARER = re.compile(rb"^Bearer\s+(\S+)$")


class Tokens:
    """Checks `Authorization: Bearer` headers; `required` is False where authorization is off.

    `local` is the token of this host's own commands; empty if they have none.
    """

    def __init__(self, required: bool, local: str = "") -> None:
        self.required = required
        self.is_open = not required  # whether every request is served
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

    def check(self, plane: str, headers: Headers) -> None:
        """Raises InvalidToken unless the headers carry the plane's current token."""
        given = next((value for name, value in headers if name.lower() == AUTHORIZATION), b"")
        match = _BEARER.match(given)
        if not match:
            raise InvalidToken(FAILED)
        if _is(match[1], self._tokens.get(plane, b"")) and not self._has_expired(plane):
            return
        if plane == API or not _is(match[1], self._local):
            raise InvalidToken(FAILED)

    async def authorize(self, access: Access) -> None:
        """Raises ServiceError if the request is not to be served."""
        if self.required:
            self.check(access.plane, access.headers)

    def admits_at_once(
        self, headers: Headers, method: bytes, url: bytes, model: str, version: str | None
    ) -> bool:
        """Whether a prediction is known to be allowed; False: `authorize` has to say."""
        del method, url, model, version  # for authorizers
        return self.are_valid(INFERENCE, headers)

    def is_local(self, headers: Headers) -> bool:
        """Whether the headers carry the token of this host's own commands."""
        given = next((value for name, value in headers if name.lower() == AUTHORIZATION), b"")
        match = _BEARER.match(given)
        return match is not None and _is(match[1], self._local)

    def are_valid(self, plane: str, headers: Headers) -> bool:
        """Whether `check` raises nothing."""
        try:
            self.check(plane, headers)
        except InvalidToken:
            return False
        return True

    def _has_expired(self, plane: str) -> bool:
        expires_ms = self._expires_ms[plane]
        return bool(expires_ms) and time.time() * 1000 > expires_ms


def _is(given: bytes, expected: bytes) -> bool:
    return bool(expected) and hmac.compare_digest(given, expected)


class TokenFollower:
    """Keeps up with tokens that were renewed, here or on another host.

    Called whenever something may have changed; rewrites the key file if it `writes_file`.
    """

    def __init__(self, tokens: Tokens, broker: Broker, redis_url: str, writes_file: bool) -> None:
        self._tokens, self._broker, self._redis_url = tokens, broker, redis_url
        self._writes_file = writes_file
        self._stored: dict[bytes, bytes] = {}  # the tokens as Redis had them last
        self._problem = ""  # why the key file is not up to date

    async def __call__(self) -> None:
        """Raises ServiceUnavailable while Redis is gone."""
        if not self._tokens.required:
            return
        flat = await self._broker.execute("HGETALL", keys.TOKENS)
        if not flat:
            await self._restore()
            return
        self._stored = dict(zip(flat[::2], flat[1::2], strict=True))
        changed = self._tokens.use(self._stored)
        if self._writes_file and (changed or self._problem):
            await self._write()

    async def _restore(self) -> None:
        """Writes the tokens again that Redis has lost; those that were made in the meantime stay."""
        if self._stored:
            log.error("Redis has lost the tokens: they are written again")
        for field, value in self._stored.items():
            await self._broker.execute("HSETNX", keys.TOKENS, field, value)

    async def _write(self) -> None:
        """Writes the key file. A failure is logged once; the next call tries again."""
        problem = ""
        try:
            await asyncio.to_thread(self._write_file)
        except OSError as error:
            problem = str(error)
        if problem and problem != self._problem:
            log.error("the new tokens are valid, but %s cannot be written, retrying: %s", KEY_FILE, problem)
        self._problem = problem

    def _write_file(self) -> None:
        with clients.client(self._redis_url) as client:
            write_key_file(Path.cwd(), client)
