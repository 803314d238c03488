"""What a gateway does that joins others: it sets up what is missing, and leaves alone what is there.

So gateways can come and go without a change of tokens, and without undoing what an operator has scaled.
"""

import time
from dataclasses import replace
from typing import Any

from gateway import tokens
from marq import keys
from marq.registry import ModelSpec, Registry


def ensure_tokens(client: Any, expiration_min: float) -> None:
    """Creates the tokens unless there are some, and renews those that have expired."""

    def create_first(pipe: Any) -> None:
        stored = pipe.exists(keys.TOKENS)
        pipe.multi()
        if not stored:
            tokens.create(pipe, expiration_min)

    client.transaction(create_first, keys.TOKENS)
    for plane in tokens.EXPIRING:
        if _has_expired(client.hget(keys.TOKENS, f"{plane}:expires")):
            tokens.renew(client, plane, expiration_min)


def _has_expired(expires_ms: bytes) -> bool:
    return 0 < int(expires_ms) < time.time() * 1000


class JoinedRegistry(Registry):
    """A registry in which a version that is put again with the same settings keeps its size."""

    def put(self, spec: ModelSpec) -> None:
        """Adds a version, or replaces its settings if they are others than before."""
        stored = self.redis.hget(keys.REGISTRY, spec.key)
        if stored is None or not _same(ModelSpec.from_json(stored), spec):
            super().put(spec)


def _same(stored: ModelSpec, spec: ModelSpec) -> bool:
    return stored == replace(spec, min_workers=stored.min_workers, max_workers=stored.max_workers)
