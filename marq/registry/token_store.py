"""Creates, renews and stores the tokens of the planes; writes the key file."""

import json
import os
import secrets
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import redis

from marq import keys
from marq.connections.commands import HashWriter, RedisClient, RedisTransaction
from marq.registry import changes
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.token_planes import API, EXPIRING, INFERENCE

NEVER = "0"
KEY_FILE = "key_file.json"


def create(client: HashWriter, expiration_min: float) -> None:
    """Makes new tokens for all planes and stores them. 0 minutes: no expiry."""
    tokens = {plane: _new() for plane in (*EXPIRING, API)}
    expires = {f"{plane}:expires": _expiry(expiration_min) for plane in EXPIRING}
    client.hset(keys.TOKENS, mapping=tokens | expires)


def renew(client: RedisClient, plane: str, expiration_min: float) -> float:
    """Makes a new token for one of the planes that expire, and wakes all gateways.

    Returns the moment of the change, as `changes.announce` does.
    """
    return _replace(client, plane, _renewed(plane, expiration_min))


def renew_in_file(directory: Path, client: RedisClient, plane: str, expiration_min: float) -> float:
    """Does the same if the key file can have the new token. Else raises OSError, and the old one stays valid.

    The file is written before the change, and again after it, with the tokens that others have renewed.
    """
    stored, renewed = _stored(client), _renewed(plane, expiration_min)
    _write(directory, stored | renewed)
    try:
        changed = _replace(client, plane, renewed)
    except redis.RedisError:
        _write(directory, stored)
        raise
    write_key_file(directory, client)
    return changed


def _renewed(plane: str, expiration_min: float) -> dict[str, str]:
    return {plane: _new(), f"{plane}:expires": _expiry(expiration_min)}


def _replace(client: RedisClient, plane: str, renewed: dict[str, str]) -> float:
    client.hset(keys.TOKENS, mapping=renewed)
    return changes.announce(client, {"action": "renew-token", "plane": plane})


def new_local_token() -> str:
    """A token for this host's own commands."""
    return _new()


def _new() -> str:
    return secrets.token_urlsafe(24)


def _expiry(expiration_min: float) -> str:
    return str(int((time.time() + expiration_min * 60) * 1000)) if expiration_min else NEVER


def write_key_file(directory: Path, client: RedisClient) -> None:
    """Writes the tokens as TorchServe's scripts expect them, readable by the user alone, in one step.

    Threads and processes may write it at the same time. Raises OSError.
    """
    _write(directory, _stored(client))


def are_in(path: Path, client: RedisClient) -> bool:
    """Whether a key file has the tokens of this Redis, and not those of another server."""
    try:
        content = json.loads(path.read_text())
        return bool(content[INFERENCE]["key"] == _stored(client).get(INFERENCE))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _stored(client: RedisClient) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in client.hgetall(keys.TOKENS).items()}


def _write(directory: Path, stored: dict[str, str]) -> None:
    content: dict[str, dict[str, str]] = {plane: {"key": stored[plane]} for plane in (*EXPIRING, API)}
    for plane in EXPIRING:
        if stored[f"{plane}:expires"] == NEVER:
            continue
        expires = datetime.fromtimestamp(int(stored[f"{plane}:expires"]) / 1000, UTC)
        content[plane]["expiration time"] = expires.isoformat().replace("+00:00", "Z")
    descriptor, name = tempfile.mkstemp(prefix=f".{KEY_FILE}.", dir=directory)  # its mode is 0600
    path = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=2)
        path.replace(directory / KEY_FILE)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def start_tokens(client: RedisClient, expiration_min: float, joins: bool) -> bool:
    """The tokens of a server that starts: new ones, unless it `joins` others or gateways run on this Redis.

    Whether the present tokens were kept.
    """
    alive = changes.now(client) - HEARTBEAT_LIMIT_S
    keeps = bool(client.exists(keys.TOKENS) and (joins or client.zcount(keys.GATEWAYS, alive, "+inf")))
    (ensure_tokens if joins or keeps else create)(client, expiration_min)
    return keeps


def ensure_tokens(client: RedisClient, expiration_min: float) -> None:
    """Creates the tokens unless there are some, and renews those that have expired."""

    def create_first(pipe: RedisTransaction) -> None:
        stored = pipe.exists(keys.TOKENS)
        pipe.multi()
        if not stored:
            create(pipe, expiration_min)

    client.transaction(create_first, keys.TOKENS, value_from_callable=True)
    for plane in EXPIRING:
        if _has_expired(client.hget(keys.TOKENS, f"{plane}:expires")):
            renew(client, plane, expiration_min)


def _has_expired(expires_ms: bytes | None) -> bool:
    return expires_ms is not None and 0 < int(expires_ms) < time.time() * 1000
