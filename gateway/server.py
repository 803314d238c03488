"""The HTTP servers of one gateway process: their shared parts, start and stop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import hiredis
from starlette.types import ASGIApp

from gateway import application
from gateway.after_refresh import AfterRefresh
from gateway.asgi import Watched
from gateway.auth.authorization import Authorization
from gateway.auth.plugin_authorizer import PluginAuthorizer
from gateway.auth.tokens import TokenFollower, Tokens
from gateway.http.middleware import Front
from gateway.http.server import server
from gateway.http.slow_clients import SlowClients
from gateway.inference.predictor import Predictor
from gateway.inference.request_hooks import ObservedPredictor
from gateway.inference.sequence_headers import SequenceHeaders
from gateway.management.snapshots import SnapshotWriter
from gateway.metrics.counting import Metering, RequestMeter
from gateway.metrics.endpoint import MetricsEndpoint, WithMetrics
from gateway.metrics.storing import Measuring
from gateway.observers.job_ends import JobEnds
from gateway.observers.observing import Observing
from gateway.openai.run import stores
from gateway.openai.worker import Worker
from gateway.routing.late_requests import LateRequests
from gateway.routing.routes import Routes
from gateway.stopping import give_up_in_time
from gateway.workflows.known import KnownWorkflows
from marq import keys
from marq.background_tasks import supervise
from marq.connections import clients
from marq.control.startup import JoinedRegistry
from marq.control.store_watch import StoreWatch
from marq.errors import ServiceError
from marq.host.node_name import node_name
from marq.host.processes import SERVER_ENDS
from marq.host.server_file import LOCAL_TOKEN_VARIABLE
from marq.host.stop_limit import StopLimit
from marq.jobs.jobs import Jobs
from marq.jobs.url_rules import UrlRules
from marq.payloads.job_uploads import JobUploads
from marq.payloads.place import Place
from marq.plugins import discovery
from marq.plugins.discovery import Plugin
from marq.plugins.protocols import AUTHORIZERS, ENDPOINTS, OBSERVERS
from marq.queue.broker import Broker
from marq.settings.fields import Settings
from marq.settings.snapshot_files import Snapshots
from marq.webhooks.outbox import Outbox
from marq.webhooks.sending import Sender

if TYPE_CHECKING:
    from gateway.grpc.serving import RpcServer

log = logging.getLogger(__name__)

GRACE_S = 2  # beyond the stop limit, for requests that do not wait for a replica


def stay_on_one_core(number: int) -> None:
    """Pins this process, one event loop, to a core that its number among the host's gateways chooses.

    Redis wakes the gateway and a replica at the same moment, and the kernel tends to put both on Redis's core
    while another core idles. Pinned gateways gave 64 clients on two cores a fifth more answers. Replicas and
    Redis are not pinned, so they can move out of the way.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[(os.getppid() + number) % len(cores)]})


async def serve(config: Settings, sockets: dict[str, socket.socket], number: int) -> None:
    """Serves all addresses until SIGTERM, then finishes the requests in flight within the stop limit.

    SERVER_ENDS is the same for all gateways of the host: no other one will take new connections.
    `number` is that of this process among the host's gateways; the first one writes the key file. Raises
    TaskKeepsEnding, after the same, when a background task keeps ending.
    """
    place = Place.of(config)
    broker, routes = Broker(config.redis_url, place=place), Routes(config, place)
    tokens = _tokens(config)
    await broker.start()
    follow_tokens = TokenFollower(tokens, broker, config.redis_url, writes_file=number == 0)
    snapshots = SnapshotWriter(Snapshots.from_environment(), routes)
    workflows = KnownWorkflows()
    late = LateRequests(clients.client(config.redis_url), config.job_result_ttl_s * 1000)
    limit = StopLimit(config.stop_timeout, config.state_dir if number == 0 else None)
    uploads = JobUploads(place.jobs, config.max_job_payload_bytes) if place and place.jobs else None
    jobs = Jobs(broker, uploads)
    observing = [Observing(each) for each in _plugins(config, OBSERVERS)]
    ends = JobEnds(jobs, partial(_names, routes, workflows), observing)
    refreshed = AfterRefresh(routes, broker, follow_tokens, workflows, snapshots, late, limit, place, ends)
    await refreshed(await routes.refresh())
    await refreshed(await routes.refresh())  # again: only changes after the first report wait for it
    parts = routes, broker, jobs, tokens, config.max_request_size
    headers = SequenceHeaders.of(config.sequence_headers)
    limits = config.max_buffered_bytes, headers, UrlRules.of(config)
    predictor = ObservedPredictor(*parts, observing, *limits) if observing else Predictor(*parts, *limits)
    made = application.Applications(config, routes, tokens, predictor, jobs, workflows)
    made.add(application.plugged(config, routes, jobs, workflows, _plugins(config, ENDPOINTS)))
    meter, endpoint = RequestMeter(), MetricsEndpoint(config.redis_url)
    metering = Metering(meter, routes)
    front = Front(config, predictor, meter, made.hot_runs)
    leaving = front.leaving
    measuring = Measuring(config, meter, routes, broker)

    managing = made.management()

    def served(plane: str, app: ASGIApp) -> ASGIApp:
        app = WithMetrics(app, endpoint) if config.metrics_plane == plane else app
        return front.wrap(Watched(app, metering.watch))

    app = served("inference", made.inference() if "management" in sockets else made.shared())
    servers = {"inference": server(app, front.protocol, config.inference_address, config, leaving)}
    if "management" in sockets:
        app = served("management", managing)
        servers["management"] = server(app, front.managing, config.management_address, config, leaving)
    if "metrics" in sockets:
        app = front.wrap(Watched(endpoint, metering.watch))
        servers["metrics"] = server(app, front.managing, config.metrics_address, config, leaving)

    stopping = asyncio.Event()
    giving_up = asyncio.create_task(give_up_in_time(stopping, broker, routes.health, lambda: limit.seconds))

    def stop(*_: object) -> None:
        stopping.set()
        routes.health.is_stopping = True
        jobs.end_waits()
        for each in servers.values():
            each.limit_s = limit.seconds + GRACE_S
            each.should_exit = True

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop)
    loop.add_signal_handler(SERVER_ENDS, _call_all, leaving.refuse_new, stop)
    tasks: dict[str, Callable[[], Awaitable[None]]] = {
        "registry": lambda: routes.follow(refreshed),
        "measurements": measuring.follow,
        "batches": Worker(stores(config, routes, jobs)).follow,
        "queue lengths": lambda: routes.backlogs.follow(broker),
        "webhooks": lambda: _webhooks(config, broker).follow(),
        **front.tasks(),
        **ends.tasks(),
        **(_of_first(config) if number == 0 else {}),
    }
    if front.knows_uvicorn:
        slow = SlowClients(servers.values(), config.slow_client_timeout, config.min_body_rate)
        tasks["slow clients"] = slow.follow
    supervised = [asyncio.create_task(supervise(name, run)) for name, run in tasks.items()]
    for task in supervised:
        task.add_done_callback(stop)
    # First gRPC, so that a gateway that answers HTTP answers gRPC, too
    rpc = await _start_grpc(config, (predictor, routes, meter, front), managing, number)
    ended = [servers[name].serve([sock]) for name, sock in sockets.items()]
    await asyncio.gather(*ended, *(each.end(stopping, lambda: limit.seconds + GRACE_S) for each in rpc))
    failures = [task.exception() for task in supervised if task.done()]
    for task in (*supervised, giving_up):
        task.cancel()
    await asyncio.gather(*supervised, giving_up, return_exceptions=True)
    with contextlib.suppress(ServiceError, ConnectionError, hiredis.ReplyError):
        await measuring.flush()
        await broker.execute("ZREM", keys.GATEWAYS, broker.stream)
        await ends.finish()
    snapshots.finish()
    jobs.stop()
    await broker.stop()
    await asyncio.gather(*(asyncio.to_thread(each.end) for each in observing))
    await leaving.end()  # last: until then clients have somebody who answers
    for failure in filter(None, failures):
        raise failure


def _call_all(*functions: Callable[[], None]) -> None:
    for function in functions:
        function()


def _names(routes: Routes, workflows: KnownWorkflows) -> set[str]:
    """Those of all models and workflows."""
    return {*(routes.registered.specs if routes.registered else ()), *workflows.names}


def _plugins(config: Settings, group: str) -> list[Plugin]:
    """Raises PluginError."""
    return discovery.load_group(group, config.plugins_path, config.plugins_left_out)


def _tokens(config: Settings) -> Tokens:
    """The tokens, behind the authorizers of plugins if there are any. Raises PluginError."""
    given = not config.disable_token_auth, os.environ.get(LOCAL_TOKEN_VARIABLE, "")
    found = _plugins(config, AUTHORIZERS)
    return Authorization(*given, [PluginAuthorizer(each) for each in found]) if found else Tokens(*given)


async def _start_grpc(
    config: Settings, shared: tuple[Predictor, Routes, RequestMeter, Front], managing: ASGIApp, number: int
) -> "list[RpcServer]":
    """The gRPC servers, which listen; none where gRPC is switched off: its packages are not even loaded."""
    if not config.enable_grpc:
        return []
    from gateway.grpc import serving
    from gateway.grpc.planes import Planes

    predictor, routes, meter, front = shared
    planes = Planes(config, predictor, routes, meter, front.access_log)
    services = {"inference": planes.inference(), "management": planes.management(managing)}
    return await serving.start(config, services, number)


def _webhooks(config: Settings, broker: Broker) -> Sender:
    return Sender(Outbox(broker), UrlRules.of(config).webhooks, config.webhook_secret)


def _of_first(config: Settings) -> dict[str, Callable[[], Awaitable[None]]]:
    """The tasks that one process of a host is enough for."""
    if not config.watches_model_store:
        return {}
    registry = JoinedRegistry(clients.client(config.redis_url))
    return {"model store": StoreWatch(config, registry, node_name(config.state_dir)).follow}
