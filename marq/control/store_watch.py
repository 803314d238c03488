"""Registers archives that are put into the model store while a server runs."""

import asyncio
import logging
from pathlib import Path

import redis

from archive.store.model_store import ModelStore
from marq.control.registration import Registration, model_store, resolve
from marq.control.startup import JoinedRegistry, set_defaults, started_by
from marq.errors import ServiceError
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings

log = logging.getLogger(__name__)

Stamp = tuple[int, int]  # when an archive was changed, and its size


class StoreWatch:
    """Looks for new archives every `model_store_poll_s` seconds. Several hosts may watch one store."""

    def __init__(self, settings: Settings, registry: JoinedRegistry, server: str) -> None:
        """`server` is the name of this server's node."""
        self._settings, self._registry, self._server = settings, registry, server
        self._store: ModelStore = model_store(settings)
        self._before: dict[Path, Stamp] = {}  # as the last look found them
        self._registered: dict[Path, Stamp] = {}
        self._problems: dict[Path, str] = {}  # that have been logged

    async def follow(self) -> None:
        """Never returns. A look that Redis or the file system fails is logged; the next one tries again."""
        problem = ""
        while True:
            try:
                await asyncio.to_thread(self.look)
                problem = ""
            except (redis.RedisError, OSError) as error:
                if str(error) != problem:
                    log.warning("new archives cannot be registered, retrying: %s", error)
                problem = str(error)
            await asyncio.sleep(self._settings.model_store_poll_s)

    def look(self) -> None:
        """Registers each archive that is new or changed, and that has not grown since the last look.

        A model stays when its archive is removed.
        """
        found = self._stamps()
        for path, stamp in found.items():
            if self._before.get(path) == stamp != self._registered.get(path):
                self._register(path, stamp)
        self._before = found
        self._registered = {path: stamp for path, stamp in self._registered.items() if path in found}
        self._problems = {path: text for path, text in self._problems.items() if path in found}

    def _stamps(self) -> dict[Path, Stamp]:
        if not self._store.root or not self._store.root.is_dir():
            return {}
        stamps = {}
        for path in self._store.all_archives():
            try:
                stat = path.stat()
            except FileNotFoundError:  # removed since it was listed
                continue
            stamps[path] = (stat.st_mtime_ns, stat.st_size)
        return stamps

    def _register(self, path: Path, stamp: Stamp) -> None:
        try:
            spec = resolve(self._settings, Registration(url=path.name), loaded_at_startup=True)
        except ServiceError as error:
            if self._problems.get(path) != error.message:
                log.error("Failed to load model: %s: %s", path.name, error.message)
            self._problems[path] = error.message
            return
        was_known = self._registry.has(spec)
        self._registry.put(started_by(self._registry, spec, self._server))
        if not was_known:
            set_defaults(self._settings, self._registry, [spec])
            log.info("registered model %s version %s from %s", spec.name, spec.version, path.name)
        elif path in self._registered:
            _log_change(path, spec)
        self._registered[path] = stamp
        self._problems.pop(path, None)


def _log_change(path: Path, spec: ModelSpec) -> None:
    log.warning(
        "%s has changed, and its version is still %s: `marq reload %s --version %s` replaces the replicas",
        path.name, spec.version, spec.name, spec.version,
    )  # fmt: skip
