"""redis-py's clients with marq's time-outs."""

from collections.abc import Sequence
from typing import cast

import redis
import redis.asyncio

from marq.connections import primary, scripts, sentinels
from marq.connections.commands import AsyncRedisClient, RedisClient, Reply
from marq.connections.urls import CONNECT_TIMEOUT_S, Command, without_password
from marq.errors import RedisUnavailable


def client(url: str, socket_timeout: float = primary.REPLY_TIMEOUT_S) -> RedisClient:
    """A redis-py client with marq's time-outs; replies are bytes."""
    options = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": socket_timeout, "protocol": 2,
    }  # fmt: skip
    if sentinels.is_url(url):
        made = redis.Redis.from_pool(primary.pool(url, **options))
    else:
        made = redis.Redis.from_url(url, **options)
    return cast(RedisClient, made)


def asynchronous_client(url: str) -> AsyncRedisClient:
    """The same for redis.asyncio."""
    if sentinels.is_url(url):
        made = redis.asyncio.Redis.from_pool(primary.asynchronous_pool(url, protocol=2))
    else:
        made = redis.asyncio.Redis.from_url(url, protocol=2)
    return cast(AsyncRedisClient, made)


def pipeline(client: RedisClient, commands: Sequence[Command]) -> list[Reply]:
    """Sends all commands in one write; returns their replies, errors as redis.ResponseError objects.

    Scripts that Redis does not know are loaded.
    """
    replies = _send(client, commands)
    if again := scripts.rerun(commands, replies):
        again.merge(replies, _send(client, again.commands))
    return replies


def run(client: RedisClient, call: Command) -> Reply:
    """Runs one script. Raises redis.ResponseError if Redis refuses it."""
    (reply,) = pipeline(client, [call])
    if isinstance(reply, Exception):
        raise reply
    return reply


def _send(client: RedisClient, commands: Sequence[Command]) -> list[Reply]:
    with client.pipeline(transaction=False) as pipe:
        for command in commands:
            pipe.execute_command(*command)
        return pipe.execute(raise_on_error=False)


def check(url: str) -> None:
    """Raises RedisUnavailable, naming the URL without its password, if Redis cannot be used."""
    try:
        with client(url, socket_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise RedisUnavailable(f"Redis at {without_password(url)} cannot be used: {error}") from error
