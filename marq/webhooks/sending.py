"""The task of a gateway process that sends webhooks."""

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import hiredis

from marq.errors import BadRequest, ServiceError
from marq.webhooks.hosts import AddressRefused, AllowedHosts
from marq.webhooks.messages import Message
from marq.webhooks.outbox import Outbox
from marq.webhooks.signing import headers
from marq.webhooks.urls import check_url

if TYPE_CHECKING:
    import httpcore

log = logging.getLogger(__name__)

PAUSE_S = 0.5  # between two looks that find nothing
DELAYS_S = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)  # after each try: a day in all
JITTER = 0.2
TRY_S = 20.0
MOST_AT_ONCE = 64  # tries of one process
MOST_OF_HOST = 16  # of these: a slow receiver leaves room for the others
WHILE_BUSY_S = 1.0
GONE = 410  # the receiver wants no more messages
LONGEST_ERROR = 300
FORGET_EVERY_S = 3600.0


class NotTaken(Exception):
    """Raised when the receiver has answered with an error."""


class Final(NotTaken):
    """Raised when it wants no further try, either."""


class Sender:
    """Sends what is due until it is cancelled. Several processes may do so at once."""

    def __init__(
        self,
        outbox: Outbox,
        allowed: AllowedHosts,
        secret: str = "",
        delays_s: Sequence[float] = DELAYS_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`secret`: signs the messages; empty: that of the outbox."""
        self._outbox, self._allowed, self._secret = outbox, allowed, secret
        self._delays_s, self._clock = delays_s, clock
        self._running: set[asyncio.Task[None]] = set()
        self._hosts: Counter[str] = Counter()
        self._pool: httpcore.AsyncConnectionPool | None = None

    async def follow(self) -> None:
        """Sends messages when they are due, also while Redis comes and goes."""
        last_forgotten = -FORGET_EVERY_S
        try:
            while True:
                try:
                    if time.monotonic() - last_forgotten > FORGET_EVERY_S:
                        await self._outbox.forget_unused_models()
                        last_forgotten = time.monotonic()
                    found = await self.begin()
                except (ServiceError, ConnectionError, hiredis.ReplyError) as error:
                    log.debug("webhooks wait for Redis: %s", error)
                    found = 0
                if not found or len(self._running) >= MOST_AT_ONCE:
                    await asyncio.sleep(PAUSE_S)
        finally:
            await self.stop()

    async def begin(self) -> int:
        """Starts to send what is due; returns how many messages that is. Raises as Outbox."""
        free = MOST_AT_ONCE - len(self._running)
        messages = await self._outbox.take(free) if free > 0 else []
        secret = self._secret or (await self._outbox.secret() if messages else "")
        for message in messages:
            task = asyncio.create_task(self._handle(message, secret))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return len(messages)

    async def finish(self) -> None:
        """Waits for the tries that have begun."""
        await asyncio.gather(*self._running)

    async def stop(self) -> None:
        """Ends the tries that have begun: their messages are sent again."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        if self._pool:
            await self._pool.aclose()

    async def _handle(self, message: Message, secret: str) -> None:
        try:
            await self._try(message, secret)
        except (ServiceError, ConnectionError, hiredis.ReplyError) as error:
            log.warning("webhook %s: Redis has not noted how it went: %s", message.id, error)

    async def _try(self, message: Message, secret: str) -> None:
        host = urlsplit(message.url).netloc
        if self._hosts[host] >= MOST_OF_HOST:
            await self._outbox.put_off(message, WHILE_BUSY_S)
            return
        self._hosts[host] += 1
        try:
            async with asyncio.timeout(TRY_S):
                await self._send(message, secret)
        except (Final, AddressRefused, BadRequest) as error:
            await self._give_up(message, str(error))
        except TimeoutError:
            await self._retry(message, f"The receiver did not answer within {TRY_S:g} s.")
        except Exception as error:  # whatever a receiver does, the others get their messages
            await self._retry(message, str(error) or type(error).__name__)
        else:
            await self._outbox.delivered(message)
        finally:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    async def _send(self, message: Message, secret: str) -> None:
        """Raises an error unless the receiver takes the message. Redirects are not followed."""
        check_url(message.url)  # producers write to Redis, too
        body = message.body
        sent = {
            "content-type": "application/json",
            "user-agent": "marq",
            **headers(secret, message.id, int(self._clock()), body),
        }
        async with self._connections().stream(
            "POST", message.url, headers=[(name.encode(), value.encode()) for name, value in sent.items()],
            content=body,
        ) as answer:  # fmt: skip
            status = answer.status
        if status == GONE:
            raise Final("The receiver answered with status 410: it wants no messages.")
        if not 200 <= status < 300:
            note = "; redirects are not followed" if 300 <= status < 400 else ""
            raise NotTaken(f"The receiver answered with status {status}{note}.")

    def _connections(self) -> "httpcore.AsyncConnectionPool":
        if self._pool is None:
            import httpcore  # with all certificates it takes a while: not before there is something to send
            import httpx

            from marq.webhooks.connections import AllowedNetwork

            self._pool = httpcore.AsyncConnectionPool(
                ssl_context=httpx.create_ssl_context(),
                max_connections=MOST_AT_ONCE,
                max_keepalive_connections=MOST_OF_HOST,
                keepalive_expiry=30.0,
                network_backend=AllowedNetwork(self._allowed),
            )
        return self._pool

    async def _retry(self, message: Message, error: str) -> None:
        if message.tries >= len(self._delays_s):
            await self._give_up(message, error)
            return
        delay_s = self._delays_s[message.tries] * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311
        log.info("webhook %s: %s It is sent again in %.0f s.", message.id, error[:LONGEST_ERROR], delay_s)
        await self._outbox.retry(message, delay_s, error[:LONGEST_ERROR])

    async def _give_up(self, message: Message, error: str) -> None:
        log.warning("webhook %s of %s failed: %s", message.id, message.about, error[:LONGEST_ERROR])
        await self._outbox.give_up(message, error[:LONGEST_ERROR])
