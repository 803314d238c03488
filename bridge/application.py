"""The Celery app of the bridge: it reads control messages, and sends the tasks that follow a result."""

from dataclasses import dataclass
from typing import Self

from celery import Celery

from marq.connections.celery_urls import backend_settings, broker_settings
from marq.settings.fields import Settings

REDIS_SCHEMES = ("redis", "rediss", "unix", "sentinel")


@dataclass(frozen=True)
class Place:
    """Where the tasks come from, and where their results go."""

    broker: str
    backend: str
    queue: str
    prefix: str  # of all keys of Celery

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            settings.celery_broker or settings.redis_url,
            settings.celery_result_backend or settings.redis_url,
            settings.celery_queue,
            settings.celery_key_prefix,
        )

    @property
    def is_redis(self) -> bool:
        """Whether the broker is a Redis."""
        return self.broker.split(":")[0].split("+")[0] in REDIS_SCHEMES


def make_app(place: Place) -> Celery:
    """Takes and writes JSON only. A task that follows goes to the queue that its signature names, else to the
    bridge's own (`marq.*`) or to `celery`."""
    app = Celery("marq-bridge")
    app.conf.update(
        **broker_settings(place.broker, place.prefix),
        **backend_settings(place.backend, place.prefix),
        task_routes={"marq.*": {"queue": place.queue}},
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
    )
    return app
