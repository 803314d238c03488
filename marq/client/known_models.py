"""A client's copy of the registry."""

import asyncio
import time

from marq.connections.clients import client as redis_client
from marq.registry.models import Registry
from marq.registry.snapshot import Models
from marq.registry.spec import ModelSpec

AGE_S = 5.0  # how old the knowledge of models and default versions may be


class KnownModels:
    """Asks the registry every few seconds only; for an unknown model at once. Raises redis.RedisError."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._specs: dict[tuple[str, str | None], ModelSpec] = {}
        self._asked = 0.0

    async def spec(self, model: str, version: str | None) -> ModelSpec:
        """A version; None: the default one. Raises ModelNotFound and ModelVersionNotFound."""
        now = time.monotonic()
        if now - self._asked > AGE_S:
            self._specs.clear()
            self._asked = now
        if (model, version) not in self._specs:
            models = await asyncio.to_thread(self._read)
            self._specs[model, version] = models.get(model, version)
        return self._specs[model, version]

    async def names(self) -> list[str]:
        """The names of all registered models, sorted."""
        return sorted((await asyncio.to_thread(self._read)).specs)

    def _read(self) -> Models:
        with redis_client(self._url) as connection:
            return Registry(connection).models()
