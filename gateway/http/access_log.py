"""The access log: `access_log.log`, a line for each HTTP request in TorchServe's format.

Lines are collected and written four times a second: a request waits for no file.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.types import Scope
from uvicorn.server import ServerState

from gateway.asgi import Report
from gateway.http.exchange import Exchange, Runs
from gateway.http.header_limits import Limits
from gateway.http.protocols import InferenceProtocol
from gateway.inference.predictor import Predictor
from gateway.metrics.counting import RequestMeter
from marq import logs
from marq.console import Console

FLUSH_EVERY_S = 0.25
Entry = tuple[float, str, int, float]  # unix s, description, status, s


class AccessLog:
    """One process's part of the file; every gateway of the host writes to the same one."""

    def __init__(self, path: Path, on_console: bool = False) -> None:
        self._file = logs.SharedText(path)
        self._console = Console() if on_console else None
        self._entries: list[Entry] = []
        self._as_json = os.environ.get(logs.FORMAT_VARIABLE) == "json"

    def describe(self, remote: str, method: str, uri: str, protocol: str = "HTTP/1.1") -> str:
        """The part of a line that is about the request; equal requests of a connection share it."""
        if not self._as_json:
            return f' - /{remote} "{method} {uri} {protocol}" '
        fields = {"remote": remote, "method": method, "uri": uri, "protocol": protocol}
        return json.dumps(fields, ensure_ascii=False)[1:-1]

    def add(self, request: str, status: int, seconds: float) -> None:
        """Adds the line of an answered request; `request` is its description."""
        self._entries.append((time.time(), request, status, seconds))

    def watch(self, scope: Scope) -> Report:
        """For `Watched`: an application that fails without an answer counts as 500."""

        def report(status: int, seconds: float) -> None:
            client, version = remote(scope.get("client")), f"HTTP/{scope['http_version']}"
            request = self.describe(client, scope["method"], _uri(scope), version)
            self.add(request, status or 500, seconds)

        return report

    async def follow(self) -> None:
        """Writes the new lines at intervals; never returns."""
        try:
            while True:
                await asyncio.sleep(FLUSH_EVERY_S)
                self.flush()
        finally:
            self.flush()

    def flush(self) -> None:
        """Writes the new lines in one write."""
        entries, self._entries = self._entries, []
        lines = (_as_json if self._as_json else _as_text)(entries)
        if self._console and lines:
            self._console.write(lines)
        self._file.write(lines)


class LoggedProtocol(InferenceProtocol):
    """The fast path with a line in the access log for each prediction."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        predictor: Predictor,
        meter: RequestMeter,
        lines: AccessLog,
        runs: Runs | None = None,
        limits: Limits | None = None,
    ) -> None:
        super().__init__(
            config, server_state, app_state, _loop, predictor=predictor, meter=meter, runs=runs, limits=limits
        )
        self.lines = lines
        self._asked: tuple[bytes, bytes] = b"", b""
        self._request = ""

    def _note(self, exchange: Exchange, status: int, seconds: float) -> None:
        super()._note(exchange, status, seconds)
        asked = exchange.method, exchange.url
        if asked != self._asked:  # most clients repeat theirs
            self._asked = asked
            method, uri = (part.decode("latin-1") for part in asked)
            self._request = self.lines.describe(remote(self.client), method, uri)
        self.lines.add(self._request, status, seconds)


def remote(client: tuple[str, int] | None) -> str:
    """host:port of a connection; `-` if it came through a Unix socket."""
    return f"{client[0]}:{client[1]}" if client else "-"


def _uri(scope: Scope) -> str:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope.get("query_string", b"")
    return (raw + b"?" + query if query else raw).decode("latin-1")


def _as_text(entries: Sequence[Entry]) -> str:
    """Lines as TorchServe writes them. Requests of the same millisecond share its text."""
    lines, last, clock = [], -1, ""
    for now, request, status, seconds in entries:
        if (moment := int(now * 1000)) != last:
            last = moment
            clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(now)) + f",{moment % 1000:03d}"
        lines.append(f"{clock}{request}{status} {int(seconds * 1000 + 0.5)}\n")
    return "".join(lines)


def _as_json(entries: Sequence[Entry]) -> str:
    return "".join(
        f'{{"time": {now:.3f}, {request}, "status": {status}, "milliseconds": {seconds * 1000:.3f}}}\n'
        for now, request, status, seconds in entries
    )
