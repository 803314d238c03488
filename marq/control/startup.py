"""The models that a server is started with."""

import logging
from collections.abc import Iterable

from marq import errors, keys
from marq.control.registration import Registration, model_store, resolve
from marq.control.removal import retire
from marq.registry.models import Registry
from marq.registry.names import is_model_name
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings

log = logging.getLogger(__name__)


def startup_registrations(settings: Settings) -> list[Registration]:
    """The items of `--models`: `[name=]file` separated by commas, or `all` for the whole model store."""
    if settings.models.strip().lower() == "all":
        return [Registration(url=path.name) for path in model_store(settings).all_archives()]
    return [_startup_item(item.strip()) for item in settings.models.split(",") if item.strip()]


def _startup_item(item: str) -> Registration:
    """A URL may have a `=` of its own."""
    name, _, url = (part.strip() for part in item.partition("="))
    return Registration(url, model_name=name) if url and is_model_name(name) else Registration(item)


def load_startup_models(settings: Settings, registry: Registry) -> list[tuple[str, str | None]]:
    """Registers the models that the server was started with; returns each item with None or its error.

    A model that an earlier start loaded, and that is not listed any more, is unregistered.
    """
    results: list[tuple[str, str | None]] = []
    loaded: dict[str, ModelSpec] = {}
    failed: set[str] = set()
    for registration in startup_registrations(settings):
        try:
            spec = resolve(settings, registration, loaded_at_startup=True)
            if spec.key in loaded:
                raise errors.Conflict(
                    f"Model version {spec.version} is already registered for model {spec.name}"
                )
        except errors.ServiceError as error:
            log.error("Failed to load model: %s: %s", registration.url, error.message)
            failed.add(registration.url)
            results.append((registration.url, error.message))
        else:
            registry.put(spec)
            loaded[spec.key] = spec
            results.append((registration.url, None))
    _set_defaults(settings, registry, loaded.values())
    for spec in registry.models():
        if spec.loaded_at_startup and spec.key not in loaded and spec.url not in failed:
            retire(registry, spec, preferred=loaded)
    return results


def _set_defaults(settings: Settings, registry: Registry, loaded: Iterable[ModelSpec]) -> None:
    for spec in loaded:
        if settings.model_defaults(spec.name, spec.version).get("defaultVersion") is True:
            registry.set_default(spec.name, spec.version)


class JoinedRegistry(Registry):
    """A registry in which a version keeps its size and generation when the same settings are put again."""

    def put(self, spec: ModelSpec) -> None:
        """Adds a version, or replaces its settings if they differ from the stored ones."""
        stored = self.redis.hget(keys.REGISTRY, spec.key)
        if stored is None or not spec.is_configured_like(ModelSpec.from_json(stored)):
            super().put(spec)
