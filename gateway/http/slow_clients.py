"""Ends the connections of clients that take too long over a request, or never begin one.

uvicorn has no limit for that, so a few clients that send a byte now and then could hold a gateway's
connections for ever. Requests pay nothing for it: all connections are looked over from time to time.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from typing import Any, NamedTuple

import uvicorn

from gateway.http.fast_path import Exchange
from gateway.http.protocols import refuse
from marq.errors import RequestTimeout

log = logging.getLogger(__name__)

LIMIT_S = 60.0
LOOKS = 12  # within the limit: so exact it is
AT_A_TIME = 500  # connections that are looked at before requests have their turn


class Stage(NamedTuple):
    """What a connection is waiting for its client to send; `since` when it has been the same."""

    request: object  # the headers of the request that has begun, or its cycle; None: there is none
    received: object  # what has arrived of the body
    size: int
    missing: str
    since: float

    def is_same(self, other: "Stage") -> bool:
        """Whether the client has come no further. Objects are compared by what they are: equal headers may
        be the next request's."""
        return self.request is other.request and self.received is other.received and self.size == other.size


class SlowClients:
    """Watches the connections of servers. A request's headers have `limit_s` to arrive; so long may pass
    without anything of its body, or after the connection was made without anything at all."""

    def __init__(self, servers: Collection[uvicorn.Server], limit_s: float = LIMIT_S) -> None:
        self._servers, self._limit_s = servers, limit_s
        self._stages: dict[Any, Stage] = {}  # of the connections that were waiting at the last look

    async def follow(self) -> None:
        """Looks again and again; never returns."""
        while True:
            await asyncio.sleep(self._limit_s / LOOKS)
            await self._look()

    async def _look(self) -> None:
        stages: dict[Any, Stage] = {}
        ended = 0
        for number, protocol in enumerate(self._connections(), 1):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
            stage = _stage(protocol)
            if stage is None:
                continue
            before = self._stages.get(protocol)
            if before and stage.is_same(before):
                stage = before
            if time.monotonic() - stage.since < self._limit_s:
                stages[protocol] = stage
            else:
                self._end(protocol, stage)
                ended += 1
        self._stages = stages
        if ended:
            log.info("connections ended whose clients were too slow: %d", ended)

    def _connections(self) -> list[Any]:
        return [protocol for server in self._servers for protocol in server.server_state.connections]

    def _end(self, protocol: Any, stage: Stage) -> None:
        """Whoever has sent part of a request, and got no answer yet, is told."""
        if stage.missing:
            refuse(protocol.transport, RequestTimeout(f"{stage.missing} within {self._limit_s:g} s."))
        else:
            protocol.transport.close()


def _stage(protocol: Any) -> Stage | None:
    """None where the client is owed something, or may be idle: uvicorn ends those that are so for too long.

    What uvicorn keeps: `headers` is a new list for each request, `cycle` the exchange of the last request
    whose headers are complete.
    """
    now, cycle = time.monotonic(), protocol.cycle
    if protocol.transport.is_closing():
        return None
    if protocol.headers is None:
        return Stage(None, None, 0, "", now)
    busy = cycle is not None and not cycle.response_complete
    if not _is_current(protocol, cycle):
        return None if busy else Stage(protocol.headers, None, 0, "The request's headers did not arrive", now)
    if not busy:
        # Without the timer of idle connections it has gone on sending what had been answered before its end.
        idle = protocol.timeout_keep_alive_task is not None
        return None if idle else Stage(cycle, None, 0, "", now)
    if not _is_awaited(protocol, cycle):
        return None
    return Stage(cycle, cycle.body, len(cycle.body), "Nothing of the request's body arrived", now)


def _is_current(protocol: Any, cycle: Any) -> bool:
    """Whether the last cycle is that of the last request to begin: then the headers of that are complete."""
    if isinstance(cycle, Exchange):
        return cycle.url is protocol.url
    return cycle is not None and cycle.scope["headers"] is protocol.headers


def _is_awaited(protocol: Any, cycle: Any) -> bool:
    """Whether more of its body must come before anything else happens."""
    if not cycle.more_body or protocol.flow.read_paused or protocol.pipeline:
        return False
    return isinstance(cycle, Exchange) or not (cycle.waiting_for_100_continue or cycle.response_started)
