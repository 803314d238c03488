"""redis-py's clients with marq's time-outs."""

from typing import Any

import redis
import redis.asyncio

from marq.connections import primary, sentinels
from marq.connections.urls import CONNECT_TIMEOUT_S, without_password
from marq.errors import RedisUnavailable


def client(url: str, **options: Any) -> Any:
    """A redis-py client with marq's time-outs; replies are bytes.

    (Untyped: redis-py's own hints cover both its synchronous and its asynchronous client.)
    """
    options = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": primary.REPLY_TIMEOUT_S, "protocol": 2,
        **options,
    }  # fmt: skip
    if sentinels.is_url(url):
        return redis.Redis.from_pool(primary.pool(url, **options))
    return redis.Redis.from_url(url, **options)


def asynchronous_client(url: str) -> Any:
    """The same for redis.asyncio."""
    if sentinels.is_url(url):
        return redis.asyncio.Redis.from_pool(primary.asynchronous_pool(url, protocol=2))
    return redis.asyncio.Redis.from_url(url, protocol=2)


def check(url: str) -> None:
    """Raises RedisUnavailable, naming the URL without its password, if Redis cannot be used."""
    try:
        with client(url, socket_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        raise RedisUnavailable(f"Redis at {without_password(url)} cannot be used: {error}") from error
