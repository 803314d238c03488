"""The Celery app of the bridge: it reads control messages, and sends the tasks that follow a result."""

from dataclasses import dataclass
from typing import Self

from celery import Celery
from celery.exceptions import ImproperlyConfigured

from marq.connections.celery_urls import backend_settings, broker_settings
from marq.connections.urls import without_password
from marq.settings.fields import Settings
from marq.settings.properties import SettingsError

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
AMQP_SCHEMES = ("amqp", "amqps", "pyamqp")


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
        return self._scheme in REDIS_SCHEMES

    @property
    def _scheme(self) -> str:
        return self.broker.partition(":")[0]

    def check(self) -> None:
        """Raises SettingsError for a broker that the bridge cannot read."""
        if self._scheme not in (*REDIS_SCHEMES, *AMQP_SCHEMES):
            raise SettingsError(
                f"celery_broker must be a URL of {', '.join((*REDIS_SCHEMES, *AMQP_SCHEMES))}, "
                f"not of {self._scheme!r:.40}"
            )


def make_app(place: Place) -> Celery:
    """Takes and writes JSON only. A task that follows goes to the queue that its signature names, else to the
    bridge's own (`marq.*`) or to `celery`. Raises SettingsError."""
    place.check()
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
    try:
        app.backend  # noqa: B018 - made here, so that a wrong URL ends the start
    except (ImportError, ImproperlyConfigured, ValueError) as error:
        url = without_password(place.backend)
        raise SettingsError(f"celery_result_backend {url} cannot be used: {error}") from None
    return app
