"""The gRPC servers of one gateway process: addresses, limits, TLS, start and stop.

Every gateway of a host listens on the same ports: the kernel gives each connection to one of them. A Unix
socket has one listener, the first gateway.
"""

import asyncio
from collections.abc import Callable, Iterable

import grpc
from grpc_reflection.v1alpha import reflection

from gateway.grpc.arrivals import UNREAD
from gateway.grpc.planes import Services
from marq.settings.fields import Settings
from marq.settings.grpc_addresses import Plane, planes

MOST_UNSTARTED = 100_000  # calls; gRPC ends some at random above 1,000, and those that wait for 30 s
LONGEST_WAIT_S = 600
PING_EVERY_MS = 60_000  # a connection whose client is gone ends a little later, also behind a dead router
PINGS_AT_LEAST_MS = 10_000  # apart: a client that pings more often loses its connection
LONGEST_MS = 2**31 - 1  # that gRPC takes; a longer age means no limit


async def start(settings: Settings, services: dict[str, Services], number: int) -> "list[RpcServer]":
    """The servers of one gateway, which listen; `number` is that of the gateway among the host's."""
    served = [plane for plane in planes(settings) if plane.port or not number]
    servers = [RpcServer(settings, plane, services[plane.name]) for plane in served]
    await asyncio.gather(*(server.start() for server in servers))
    return servers


class RpcServer:
    """The server of one address. Raises RuntimeError if it cannot be bound."""

    def __init__(self, settings: Settings, plane: Plane, services: Services) -> None:
        most = max(settings.max_buffered_bytes // UNREAD, 1)
        self._server = grpc.aio.server(options=list(_options(settings, plane)), maximum_concurrent_rpcs=most)
        self._server.add_generic_rpc_handlers(services.handlers)
        if settings.enable_grpc_reflection:
            names = [*services.names, reflection.SERVICE_NAME]
            reflection.enable_server_reflection(names, self._server)
        if settings.enable_grpc_ssl:
            self._server.add_secure_port(plane.target, _credentials(settings))
        else:
            self._server.add_insecure_port(plane.target)

    async def start(self) -> None:
        """Listens."""
        await self._server.start()

    async def end(self, stopping: asyncio.Event, grace_s: Callable[[], float]) -> None:
        """Serves until the event, then finishes the calls in flight, for `grace_s` at most."""
        await stopping.wait()
        await self._server.stop(grace_s())


def _options(settings: Settings, plane: Plane) -> Iterable[tuple[str, int]]:
    """The channel arguments."""
    yield "grpc.so_reuseport", 1
    yield "grpc.max_receive_message_length", min(settings.max_request_size, LONGEST_MS)
    yield "grpc.max_send_message_length", -1  # replicas and the management API limit their answers
    yield "grpc.max_metadata_size", settings.max_header_size
    yield "grpc.absolute_max_metadata_size", settings.max_header_size
    # Else gRPC takes up to 64 MiB of each connection before a call is read; reading is not slower for it
    yield "grpc.http2.bdp_probe", 0
    yield "grpc.http2.lookahead_bytes", UNREAD
    yield "grpc.keepalive_time_ms", PING_EVERY_MS
    yield "grpc.http2.min_ping_interval_without_data_ms", PINGS_AT_LEAST_MS
    yield "grpc.keepalive_permit_without_calls", 1
    yield "grpc.server.max_pending_requests", MOST_UNSTARTED
    yield "grpc.server.max_pending_requests_hard_limit", MOST_UNSTARTED
    yield "grpc.server_max_unrequested_time_in_server", LONGEST_WAIT_S
    for name, value in (
        ("grpc.max_connection_age_ms", plane.max_connection_age_ms),
        ("grpc.max_connection_age_grace_ms", plane.max_connection_age_grace_ms),
    ):
        if value <= LONGEST_MS:
            yield name, value


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    """TLS with the server's certificate; clients need one too, where `grpc_client_ca_file` is set."""
    assert settings.private_key_file and settings.certificate_file  # noqa: S101 - the supervisor has checked
    pair = settings.private_key_file.read_bytes(), settings.certificate_file.read_bytes()
    authority = settings.grpc_client_ca_file.read_bytes() if settings.grpc_client_ca_file else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)
