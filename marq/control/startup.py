"""The models that a server is started with."""

import contextlib
import logging
from collections.abc import Container, Iterable, Mapping
from dataclasses import replace

from archive.store.model_store import file_name
from marq import errors, keys
from marq.control.contradictions import checked
from marq.control.registration import Registration, model_store, resolve
from marq.control.removal import retire
from marq.registry.models import Registry
from marq.registry.names import is_model_name
from marq.registry.spec import SETTINGS, ModelSpec
from marq.settings import snapshot
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


def restore(settings: Settings, registry: Registry, text: str) -> list[tuple[str, str | None]]:
    """Registers the models of a snapshot with the settings and sizes that it has; returns as the next one.

    If the registry holds models, it has outlived the server and is newer: nothing is registered.
    """
    results: list[tuple[str, str | None]] = []
    if list(registry.models()):
        return results
    listed = {file_name(each.url): each.url for each in startup_registrations(settings)}
    for name, _, file, stored in snapshot.versions(text):
        try:
            spec = resolve(settings, _restored(name, listed.get(file, file), stored), loaded_at_startup=True)
            most = max(spec.min_workers, _number(stored, "maxWorkers") or 0)
            spec = checked(replace(spec, max_workers=most, loaded_at_startup=file in listed))
        except errors.ServiceError as error:
            log.error("Failed to load model: %s: %s", file, error.message)
            results.append((file, error.message))
        else:
            registry.put(spec)
            if stored.get("defaultVersion") is True:
                registry.set_default(spec.name, spec.version)
            results.append((file, None))
    return results


def _restored(name: str, url: str, stored: Mapping[str, object]) -> Registration:
    """The settings of a snapshot count as if a client had given them."""
    runtime = stored.get("runtimeType")
    numbers = {each.name: _number(stored, each.yaml) for each in SETTINGS if each.in_models_json}
    return Registration(
        url,
        model_name=name,
        runtime=None if runtime is None else str(runtime),
        initial_workers=_number(stored, "minWorkers"),
        settings={name: number for name, number in numbers.items() if number is not None},
    )


def _number(stored: Mapping[str, object], key: str) -> int | None:
    value = stored.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def load_startup_models(
    settings: Settings, registry: Registry, server: str, restored: str | None = None
) -> list[tuple[str, str | None]]:
    """Registers the models that the server was started with; returns each item with None or its error.

    A model that an earlier start loaded, and that is not listed any more, is unregistered, unless another
    server that runs was started with it. `server` is the name of this server's node. At a start from a
    snapshot, `restored`, its models stay, and registered versions keep their sizes.
    """
    results: list[tuple[str, str | None]] = []
    held = {spec.key: spec for spec in registry.models()} if restored is not None else {}
    kept = {f"{each.name}/{each.version}" for each in snapshot.versions(restored)} if restored else set()
    loaded: dict[str, ModelSpec] = {}
    failed: set[str] = set()
    for registration in startup_registrations(settings):
        try:
            spec = resolve(settings, registration, loaded_at_startup=True)
            spec = checked(_sized_like(held.get(spec.key), spec))
            if spec.key in loaded:
                raise errors.Conflict(
                    f"Model version {spec.version} is already registered for model {spec.name}"
                )
        except errors.ServiceError as error:
            log.error("Failed to load model: %s: %s", registration.url, error.message)
            failed.add(registration.url)
            results.append((registration.url, error.message))
        else:
            registry.put(started_by(registry, spec, server))
            loaded[spec.key] = spec
            results.append((registration.url, None))
    set_defaults(settings, registry, loaded.values())
    stays = kept | loaded.keys()
    unlisted = [each for each in registry.models() if each.key not in stays and each.url not in failed]
    _give_up(registry, [spec for spec in unlisted if spec.loaded_at_startup], server, preferred=loaded)
    return results


def started_by(registry: Registry, spec: ModelSpec, server: str) -> ModelSpec:
    """The version as started by this server, and by the others that run and were started with it."""
    others = _other_servers(registry, registry.current(spec), server)
    return replace(spec, started_by=sorted({*others, server}))


def _give_up(registry: Registry, specs: Iterable[ModelSpec], server: str, preferred: Container[str]) -> None:
    """Unregisters versions that this server is not started with any more, or leaves them to other servers."""
    left, others = [], set()
    for spec in specs:
        if running := _other_servers(registry, spec, server):
            left.append(f"{spec.name} {spec.version}")
            others.update(running)
            with contextlib.suppress(errors.ModelVersionNotFound):  # unregistered meanwhile
                registry.adjust(spec, started_by=running)
        else:
            retire(registry, spec, preferred)
    if left:
        log.warning(
            "models that other servers on this Redis were started with stay registered: %s "
            "(servers of the nodes: %s)",
            ", ".join(left), ", ".join(sorted(others)),
        )  # fmt: skip


def _other_servers(registry: Registry, spec: ModelSpec, server: str) -> list[str]:
    """The servers that run and were started with the version, without this one.

    A server that has been killed counts until its node's lease ends.
    """
    others = [each for each in spec.started_by if each != server]
    return [each for each in others if registry.redis.exists(keys.node_owner(each))]


def _sized_like(held: ModelSpec | None, spec: ModelSpec) -> ModelSpec:
    if held is None:
        return spec
    return replace(spec, min_workers=held.min_workers, max_workers=held.max_workers)


def set_defaults(settings: Settings, registry: Registry, loaded: Iterable[ModelSpec]) -> None:
    """Makes those the default versions that the `models` JSON names as such."""
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
