"""From a register request or a start-up item to a model version with every setting resolved.

Order for each setting, first wins: the request, model-config.yaml, the `models` JSON, the default.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from archive.errors import ArchiveError, ArchiveExists, ArchiveNotFound, DownloadFailed
from archive.manifest import Manifest
from archive.model_config import ModelConfig, Torchrun
from archive.reader import Description, describe
from archive.store.download import Source
from archive.store.model_store import ModelStore, default_name, file_name
from marq import errors, gpus
from marq.control import registration_rules as rules
from marq.control.contradictions import checked
from marq.plugins import discovery
from marq.plugins.protocols import STORES
from marq.registry.config.unused_keys import notices
from marq.registry.spec import SETTINGS, ModelSpec
from marq.settings import addresses
from marq.settings.fields import Settings

log = logging.getLogger(__name__)

OWN_RUNTIME = "python"  # the one with environments of its own: others name their interpreter
_ERRORS = ((ArchiveNotFound, errors.ModelNotFound), (DownloadFailed, errors.DownloadFailed),
           (ArchiveExists, errors.ServiceError), (ArchiveError, errors.InvalidModel))  # fmt: skip


@dataclass(frozen=True)
class Registration:
    """A client's request to register; None where it leaves the choice to the archive and the server."""

    url: str
    model_name: str | None = None
    handler: str | None = None
    runtime: str | None = None
    initial_workers: int | None = None
    s3_sse_kms: bool = False
    settings: Mapping[str, int] = field(default_factory=dict)  # by the names of ModelSpec's fields


def resolve(settings: Settings, registration: Registration, loaded_at_startup: bool = False) -> ModelSpec:
    """Finds (or downloads) and reads the archive. Raises ServiceError; a download is then removed again.

    At start-up the file may give the name, and a file that was downloaded earlier is used again.
    """
    rules.check_request(registration.model_name, registration.handler or "", registration.runtime)
    store = model_store(settings)
    with _as_service_errors(registration.url):
        path, is_new = _locate(store, registration, loaded_at_startup)
    try:
        with _as_service_errors(registration.url):
            description = describe(path)
        spec = _spec(settings, registration, description, loaded_at_startup)
        rules.check_sizes(spec)
        rules.check_policy(settings, spec)
        rules.check_webhook(settings, checked(spec))
        return spec
    except errors.ServiceError:
        if is_new:
            store.remove_download(registration.url)
        raise


def model_store(settings: Settings) -> ModelStore:
    """The model store, with the URLs from which it may download.

    Clients of the model API may name public URLs where no stranger can be such a client.
    """
    is_guarded = not settings.disable_token_auth or addresses.parse(settings.management_address).is_loopback
    public = settings.enable_model_api and is_guarded
    return ModelStore(
        settings.model_store,
        settings.allowed_urls.split(","),
        public_urls=public,
        sources=_sources(settings.plugins_path, settings.plugins_left_out),
    )


@lru_cache(maxsize=1)
def _sources(plugins_path: str, left_out: str) -> Mapping[str, Source]:
    """The stores of plugins, by their schemes. Raises PluginError."""
    found = discovery.load_group(STORES, plugins_path, left_out)
    return {scheme.lower(): plugin.made.pieces for plugin in found for scheme in plugin.made.schemes}


@contextlib.contextmanager
def _as_service_errors(url: str) -> Iterator[None]:
    """Archive errors as a client sees them: TorchServe's text first, the cause on the next line."""
    try:
        yield
    except ArchiveError as error:
        kind = next(kind for archive_kind, kind in _ERRORS if isinstance(error, archive_kind))
        raise kind("\n".join(filter(None, (str(error), error.reason)))) from error
    except OSError as error:
        cause = f"{error.filename}: {error.strerror}" if error.filename else error
        raise errors.ServiceError(f"Failed to save model: {url}\n{cause}") from error


def _locate(store: ModelStore, registration: Registration, at_startup: bool) -> tuple[Path, bool]:
    """The archive, and whether it may have been downloaded for this registration."""
    try:
        found = store.resolve(registration.url, by_operator=at_startup, s3_sse_kms=registration.s3_sse_kms)
        return found, True
    except ArchiveExists:
        if not at_startup or store.root is None:
            raise
        return store.root / file_name(registration.url), False


def _spec(
    settings: Settings, registration: Registration, description: Description, at_startup: bool
) -> ModelSpec:
    manifest, config = description.manifest, description.config or ModelConfig()
    name, version = _name(registration, description, at_startup), manifest.model_version
    rules.check_version(version)
    rules.check_config(config)
    defaults = settings.model_defaults(name, version)
    min_workers, max_workers = _workers(settings, registration, config, defaults, at_startup)
    runtime = _runtime(registration, defaults, manifest)
    noted = _notices(name, config, runtime)
    resolved = {
        **{each.name: getattr(settings, each.server) for each in SETTINGS if each.server},
        **_models_json(defaults),
        **_configured(config),
        **registration.settings,
        "device_ids": list(config.device_ids or ()),
        "min_workers": min_workers,
        "max_workers": max_workers,
        "handler": _handler(settings, registration, manifest),
        "runtime": runtime,
        "requirements": (manifest.requirements_file or "") if settings.install_py_dep_per_model else "",
        "use_venv": bool(config.use_venv) and runtime == OWN_RUNTIME,
        "config_notices": noted,
    }
    return ModelSpec(
        name=name, version=version, url=registration.url, archive=str(description.path.absolute()),
        envelope=settings.service_envelope, loaded_at_startup=at_startup, **resolved,
    )  # fmt: skip


def _models_json(defaults: Mapping[str, object]) -> dict[str, int]:
    allowed = [each for each in SETTINGS if each.in_models_json]
    return {each.name: number for each in allowed if (number := _positive(defaults, each.yaml))}


def _configured(config: ModelConfig) -> dict[str, Any]:
    """The settings of model-config.yaml, which have the names of ModelSpec's fields."""
    configured = {}
    for setting in SETTINGS:
        if setting.yaml and (value := getattr(config, setting.name)) is not None:
            configured[setting.name] = value
    if not (config.parallel_type and config.parallel_level):  # TorchServe uses both or none
        configured.pop("parallel_type", None)
        configured.pop("parallel_level", None)
    elif config.ranks:
        configured["ranks"] = config.ranks
        configured["rank_threads"] = (config.torchrun or Torchrun()).omp_num_threads
    return configured


def _positive(defaults: Mapping[str, object], key: str) -> int | None:
    """A number of the `models` JSON; other values are ignored, as by TorchServe."""
    value = defaults.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _name(registration: Registration, description: Description, at_startup: bool) -> str:
    usual = default_name(description.path) if at_startup else None
    with _as_service_errors(registration.url):
        name = description.manifest.registered_name(
            registration.model_name or description.manifest.model_name or usual
        )
    rules.check_name(name)
    return name


def _handler(settings: Settings, registration: Registration, manifest: Manifest) -> str:
    handler = registration.handler or manifest.handler or settings.default_service_handler
    if not handler:
        raise errors.InvalidModel(
            "Handler is not defined. Name one in the archive's manifest, with the parameter handler, "
            "or for all models with default_service_handler in config.properties."
        )
    return handler


def _runtime(registration: Registration, defaults: Mapping[str, object], manifest: Manifest) -> str:
    runtime = str(registration.runtime or defaults.get("runtimeType") or manifest.runtime)
    rules.check_runtime(runtime)
    return runtime


def _notices(name: str, config: ModelConfig, runtime: str) -> list[str]:
    """What of model-config.yaml has no effect or another one; the log says so, too."""
    found = notices(config)
    if config.use_venv and runtime != OWN_RUNTIME:
        found.append(f"useVenv has no effect with the runtime {runtime}, only with {OWN_RUNTIME}")
    for sentence in found:
        log.warning("%s: %s", name, sentence)
    return found


def _workers(
    settings: Settings,
    registration: Registration,
    config: ModelConfig,
    defaults: Mapping[str, object],
    at_startup: bool,
) -> tuple[int, int]:
    """(fewest, most)."""
    usual = settings.default_workers_per_model
    if registration.initial_workers is not None:
        return registration.initial_workers, registration.initial_workers
    if config.min_workers == 0 and config.max_workers:  # it rests while no request comes
        return 0, config.max_workers
    if config.min_workers:
        return config.min_workers, config.max_workers or config.min_workers
    if not at_startup:
        return usual, usual
    usual = usual or len(gpus.visible(settings.number_of_gpu)) or os.cpu_count() or 1
    most = _positive(defaults, "maxWorkers") or usual
    fewest = _positive(defaults, "minWorkers") or min(usual, most)
    return fewest, max(fewest, most)
