"""One gateway process: `python -m gateway`, with its listening sockets inherited from the supervisor."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from gateway import application
from gateway.asgi import ASGIApp
from gateway.predictions import Predictions
from gateway.protocol import PredictionProtocol
from gateway.routes import Routes
from gateway.tokens import Tokens
from marq import connection, keys, settings
from marq.broker import Broker
from marq.jobs import Jobs
from marq.listen import inherited_sockets
from marq.process import die_with_parent
from marq.registry import HEARTBEAT_S

log = logging.getLogger(__name__)

GC_THRESHOLD = (20_000, 20, 20)  # a request leaves no cycles; the default looks for them every 30 requests
NUMBER_VARIABLE = "MARQ_GATEWAY"
GRACE_S = 10  # what is in flight at a stop may take so long


class Server(uvicorn.Server):
    """A uvicorn server among others in one event loop: signals are the gateway's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: ASGIApp) -> Server:
    return Server(
        uvicorn.Config(
            app,
            loop="uvloop", http=PredictionProtocol, ws="none", lifespan="off", log_level="warning",
            access_log=False, server_header=False, date_header=False,
            timeout_graceful_shutdown=GRACE_S, timeout_keep_alive=75,
        )
    )  # fmt: skip


def stay_on_one_core(number: int) -> None:
    """Pins this process, one event loop, to one core; which one depends on the gateway's number.

    Redis wakes the gateway and a replica at the same moment, and the kernel likes to put both on the core
    that Redis runs on, while another idles. With the gateway elsewhere for good, 64 clients on two cores got
    a fifth more answers. Nothing else is pinned, so other processes can make room.
    """
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[(os.getppid() + number) % len(cores)]})


async def follow_tokens(tokens: Tokens, broker: Broker) -> None:
    """Keeps up with renewed tokens; never returns."""
    while True:
        with contextlib.suppress(Exception):
            flat = await broker.execute("HGETALL", keys.TOKENS)
            tokens.use(dict(zip(flat[::2], flat[1::2], strict=True)))
        await asyncio.sleep(HEARTBEAT_S)


async def serve(config: settings.Settings, sockets: dict[str, socket.socket]) -> None:
    """Runs both applications until SIGTERM, then finishes what is in flight."""
    broker, routes = Broker(config.redis_url), Routes(config.redis_url)
    tokens = Tokens(required=not config.disable_token_auth)
    await broker.start()
    await routes.refresh()
    jobs, hot = Jobs(broker), Predictions(routes, broker, tokens, config.max_request_size)
    PredictionProtocol.predictions = hot
    servers = {
        "inference": server(application.inference(config, routes, hot, jobs, tokens)),
        "management": server(application.management_application(config, routes, tokens)),
    }

    def stop() -> None:
        for each in servers.values():
            each.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    following = [
        asyncio.create_task(routes.follow()),
        asyncio.create_task(follow_tokens(tokens, broker)),
    ]
    await asyncio.gather(*(servers[name].serve([sock]) for name, sock in sockets.items()))
    for task in following:
        task.cancel()
    jobs.stop()
    await broker.stop()


def main() -> None:
    die_with_parent()
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s [%(levelname)s] gateway: %(message)s"
    )
    config = settings.load()
    connection.check(config.redis_url)
    stay_on_one_core(int(os.environ.get(NUMBER_VARIABLE, "0")))
    gc.freeze()  # what start-up has left lives as long as the process: collections need not look at it
    gc.set_threshold(*GC_THRESHOLD)
    uvloop.run(serve(config, inherited_sockets(os.environ)))


if __name__ == "__main__":
    main()
