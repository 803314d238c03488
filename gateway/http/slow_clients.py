"""Closes connections whose client sends a request too slowly, sends none, or does not read its answer.

uvicorn has no such limit, so a few clients that send a byte now and then could hold a gateway's connections
forever. The watch costs requests nothing: it visits all connections a few times a minute.
"""

import asyncio
import logging
import time
from collections.abc import Collection
from typing import NamedTuple

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.http.exchange import Exchange
from gateway.http.guarded import GuardedProtocol
from gateway.http.refusal import Deaf, refuse
from marq.errors import RequestTimeout

log = logging.getLogger(__name__)

LIMIT_S = 60.0
LOOKS = 12  # visits per limit: a connection may last a twelfth longer than the limit
UNREAD = object()
AT_A_TIME = 500  # connections that are visited before the event loop turns to requests


class Stage(NamedTuple):
    """The step at which a connection waits for its client, and the start of that wait."""

    request: object  # the headers of the incomplete request, or its cycle; None before the first byte
    received: object  # the buffer of the body; UNREAD for an answer
    size: int  # bytes of the body so far, or of the answer that are not sent yet
    missing: str  # the error message; empty where the client is not answered
    since: float  # seconds of the monotonic clock
    body: int | None = None  # bytes of the connection's bodies so far, while one arrives

    def is_same(self, other: "Stage") -> bool:
        """Whether the client made no progress. The next request may have equal headers: identities count."""
        return self.request is other.request and self.received is other.received and self.size == other.size

    def is_too_slow(self, began: "Stage", rate: float) -> bool:
        """Whether less of the body has arrived since then than a rate in bytes per second demands."""
        return (self.body or 0) - (began.body or 0) < rate * (time.monotonic() - began.since)


class SlowClients:
    """Watches the connections of servers.

    `limit_s` bounds four times: until all headers of a request have arrived, a pause in its body, a new
    connection without any byte, and a pause in the reading of an answer. In each such time, a body that is
    incomplete must arrive at `rate` bytes per second on average.
    """

    def __init__(self, servers: Collection[uvicorn.Server], limit_s: float = LIMIT_S, rate: int = 0) -> None:
        self._servers, self._limit_s, self._rate = servers, limit_s, rate
        self._stages: dict[GuardedProtocol, Stage] = {}  # of the connections that waited at the last visit
        self._measured: dict[GuardedProtocol, Stage] = {}  # where the measuring of their bodies began

    async def follow(self) -> None:
        """Visits all connections at intervals; never returns."""
        while True:
            await asyncio.sleep(self._limit_s / LOOKS)
            await self._look()

    async def _look(self) -> None:
        stages: dict[GuardedProtocol, Stage] = {}
        measured: dict[GuardedProtocol, Stage] = {}
        ended = 0
        for number, protocol in enumerate(self._connections(), 1):
            if number % AT_A_TIME == 0:
                await asyncio.sleep(0)
            stage = _stage(protocol)
            if stage is None:
                continue
            before = self._stages.get(protocol)
            waits = before if before and stage.is_same(before) else stage
            began = self._measuring(protocol, stage)
            if self._is_over(waits):
                self._end(protocol, stage)
                ended += 1
            elif self._rate and began and self._is_over(began) and stage.is_too_slow(began, self._rate):
                text = f"The request's body arrives more slowly than {self._rate} bytes/s (min_body_rate)."
                refuse(protocol.transport, RequestTimeout(text))
                ended += 1
            else:
                stages[protocol] = waits
                if began:
                    measured[protocol] = stage if self._is_over(began) else began
        self._stages, self._measured = stages, measured
        if ended:
            log.info(
                "closed %d connections of clients that were slower than slow_client_timeout or "
                "min_body_rate allows",
                ended,
            )

    def _measuring(self, protocol: GuardedProtocol, stage: Stage) -> Stage | None:
        """The start of the measurement of the body that arrives; None while none arrives."""
        began = self._measured.get(protocol)
        if stage.body is None:
            return None
        return began if began and began.request is stage.request else stage

    def _is_over(self, stage: Stage) -> bool:
        return time.monotonic() - stage.since >= self._limit_s

    def _connections(self) -> list[GuardedProtocol]:
        found = [protocol for server in self._servers for protocol in server.server_state.connections]
        return [protocol for protocol in found if isinstance(protocol, GuardedProtocol)]

    def _end(self, protocol: GuardedProtocol, stage: Stage) -> None:
        """Closes the connection; a client that has sent part of a request gets an answer first."""
        if stage.missing:
            refuse(protocol.transport, RequestTimeout(f"{stage.missing} within {self._limit_s:g} s."))
        elif stage.received is UNREAD:
            protocol.transport.abort()
        else:
            protocol.transport.close()


def _stage(protocol: GuardedProtocol) -> Stage | None:
    """None while a response is due or the connection idles: there uvicorn's keep-alive time-out applies.

    A connection that closes stays until its client has read everything.

    uvicorn makes a new list `headers` for each request; `cycle` belongs to the last request whose headers are
    complete.
    """
    now = time.monotonic()
    if unread := protocol.transport.get_write_buffer_size():
        return Stage(None, UNREAD, unread, "", now)
    cycle: Exchange | RequestResponseCycle | None = protocol.cycle
    if protocol.transport.is_closing() or isinstance(protocol.parser, Deaf):
        return None
    if protocol.headers is None:
        return Stage(None, None, 0, "", now)
    busy = cycle is not None and not cycle.response_complete
    if not _is_current(protocol, cycle):
        return None if busy else Stage(protocol.headers, None, 0, "The request's headers did not arrive", now)
    if not busy:
        # Without the keep-alive timer uvicorn answered before the body ended, and the client still sends it.
        idle = protocol.timeout_keep_alive_task is not None
        return None if idle else Stage(cycle, None, 0, "", now)
    if cycle is None or not _is_awaited(protocol, cycle):
        return None
    missing = "Nothing of the request's body arrived"
    if isinstance(cycle, Exchange):
        return Stage(cycle, cycle.body, cycle.received, missing, now, cycle.received)
    return Stage(cycle, cycle.body, len(cycle.body), missing, now, protocol.body_bytes)


def _is_current(protocol: GuardedProtocol, cycle: Exchange | RequestResponseCycle | None) -> bool:
    """Whether `cycle` belongs to the newest request, whose headers then are complete."""
    if isinstance(cycle, Exchange):
        return cycle.url is protocol.url
    return cycle is not None and cycle.scope["headers"] is protocol.headers


def _is_awaited(protocol: GuardedProtocol, cycle: Exchange | RequestResponseCycle) -> bool:
    """Whether nothing happens before more of the body arrives."""
    if not cycle.more_body or protocol.flow.read_paused or protocol.pipeline:
        return False
    return isinstance(cycle, Exchange) or not (cycle.waiting_for_100_continue or cycle.response_started)
