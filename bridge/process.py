"""The threads of a bridge."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Protocol

from celery import Celery

from bridge.application import Place, make_app
from bridge.control import Control
from bridge.intake import Intake
from bridge.known_models import KnownModels
from bridge.ownership import Ownership
from bridge.results import PASSING, Results
from bridge.revoking import Revoker
from bridge.settling import Settler
from bridge.sources.amqp_queue import AmqpQueue
from bridge.sources.redis_queue import RedisQueue
from bridge.sources.source import Source
from marq.connections import clients
from marq.connections.blocking import Connection
from marq.connections.urls import without_password
from marq.settings.fields import Settings

log = logging.getLogger(__name__)
RETRY_S = 1.0  # after an error of a connection
STOP_S = 5.0


class Part(Protocol):
    """A loop of a bridge: `step` is called again and again, after an error also `close`."""

    def step(self) -> None: ...
    def close(self) -> None: ...


class Bridge:
    """Takes the tasks of one queue, and writes their results, until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._place = settings, Place.of(settings)
        self._app = make_app(self._place)
        self._stopping = threading.Event()

    def stop_soon(self, *_: object) -> None:
        """May be called by a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Returns when it is stopped. Raises OwnershipLost, and redis.RedisError at the start."""
        place, url = self._place, self._settings.redis_url
        ownership = Ownership(clients.client(url), place.queue)
        if not ownership.wait(self._stopping.is_set):
            return
        log.info(
            "takes tasks of the queue %s of %s; results go to %s",
            place.queue, without_password(place.broker), without_password(place.backend),
        )  # fmt: skip
        settler = Settler(url, Connection(url), Results(self._app), place.queue)
        control = Control(self._app, Revoker(Connection(url), place.queue), place.queue)
        others = [self._start(settler, "results"), self._start(control, "control")]
        intake = Intake(
            _source(place, self._app), Connection(url), Results(self._app), KnownModels(url), place.queue,
            place.is_redis, self._settings.max_queued_jobs, settler.repeated.put,
        )  # fmt: skip
        self._loop(intake, ownership.renew)
        for thread in others:
            thread.join(STOP_S)
        ownership.release()

    def _start(self, part: Part, name: str) -> threading.Thread:
        thread = threading.Thread(target=self._run_or_exit, args=(part,), name=name, daemon=True)
        thread.start()
        return thread

    def _run_or_exit(self, part: Part) -> None:
        """A thread that fails ends the process: the watcher starts another one."""
        try:
            self._loop(part)
        except BaseException:
            log.exception("the bridge ends: an error that it cannot mend")
            logging.shutdown()
            os._exit(1)

    def _loop(self, part: Part, before: Callable[[], None] = lambda: None) -> None:
        while not self._stopping.is_set():
            try:
                before()
                part.step()
            except PASSING as error:
                log.warning("%s, next attempt in %g s: %s", type(error).__name__, RETRY_S, error)
                part.close()
                self._stopping.wait(RETRY_S)
        part.close()


def _source(place: Place, app: Celery) -> Source:
    if place.is_redis:
        return RedisQueue(place.broker, place.queue, place.prefix)
    return AmqpQueue(app, place.queue)
