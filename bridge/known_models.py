"""The registry as the intake sees it."""

import time

from marq.connections.clients import client
from marq.errors import ModelNotFound, ModelVersionNotFound
from marq.registry.models import Registry
from marq.registry.snapshot import Models
from marq.registry.spec import ModelSpec

AGE_S = 1.0
UNKNOWN_AGE_S = 0.2  # the same, when a task names an unknown model


class KnownModels:
    """Reads the registry now and then. Raises redis.RedisError."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._models: Models | None = None
        self._read = 0.0

    def get(self, model: str, version: str | None) -> ModelSpec:
        """A version; None: the default one. Raises ModelNotFound and ModelVersionNotFound."""
        try:
            return self._fresh(AGE_S).get(model, version)
        except (ModelNotFound, ModelVersionNotFound):  # it may have just been registered
            return self._fresh(UNKNOWN_AGE_S).get(model, version)

    def _fresh(self, age_s: float) -> Models:
        now = time.monotonic()
        if self._models is None or now - self._read > age_s:
            with client(self._url) as connection:
                self._models = Registry(connection).models()
            self._read = now
        return self._models
