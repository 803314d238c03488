"""The private names of uvicorn that the fast path and the slow-client watch rely on.

They are checked when a gateway starts: another version of uvicorn may lack one. Then predictions take the
ASGI path, and slow clients are not ended. `pyproject.toml` bounds the version for the same reason.
"""

import asyncio

from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

PROTOCOL = (
    *("client", "cycle", "flow", "headers", "loop", "parser", "pipeline", "timeout_keep_alive_task"),
    *("_unset_keepalive_if_required", "connections", "pause_writing", "scope", "shutdown"),
    *("transport", "connection_lost", "connection_made", "on_body", "on_header", "on_headers_complete"),
    *("on_message_begin", "on_message_complete", "on_response_complete", "on_url"),
)
SET_BY_CALLBACKS = ("expect_100_continue", "headers", "url")  # attributes of the protocol
CYCLE = ("body", "disconnected", "keep_alive", "message_event", "more_body", "response_complete")
CYCLE_ONLY_READ = ("response_started", "scope", "waiting_for_100_continue")  # not of an Exchange
PARSER = ("get_http_version", "get_method", "should_keep_alive")


async def _no_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Never called: a protocol wants an application."""


def missing(protocol_class: type[HttpToolsProtocol] = HttpToolsProtocol) -> list[str]:
    """The names that this version of uvicorn lacks; empty if the fast path can be taken."""
    protocol = protocol_class(
        config=Config(_no_app, http=protocol_class, lifespan="off"),
        server_state=ServerState(),
        app_state={},
        _loop=asyncio.get_running_loop(),
    )
    cycle = set(RequestResponseCycle.__init__.__code__.co_names) | set(vars(RequestResponseCycle))
    callbacks = set(HttpToolsProtocol.on_message_begin.__code__.co_names)
    return [
        *(f"HttpToolsProtocol.{name}" for name in PROTOCOL if not hasattr(protocol, name)),
        *(f"HttpToolsProtocol.{name}" for name in SET_BY_CALLBACKS if name not in callbacks),
        *(f"RequestResponseCycle.{name}" for name in CYCLE + CYCLE_ONLY_READ if name not in cycle),
        *(f"HttpRequestParser.{name}" for name in PARSER if not hasattr(protocol.parser, name)),
    ]
