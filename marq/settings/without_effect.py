"""Settings that have no effect, because of others or at all, and keys of the `models` JSON that have none."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from marq.plugins import discovery
from marq.registry.spec import SETTINGS
from marq.settings import addresses, grpc_addresses
from marq.settings.fields import Settings
from marq.settings.torchserve_keys import meant

MODELS = "model_settings"
NO_PLUGINS = "there is no Python package in it (TorchServe's plugins are jars, which marq cannot run)"
# Keys of the `models` JSON: numbers above 0, and others.
_NUMBERS = frozenset((*(each.yaml for each in SETTINGS if each.in_models_json), "minWorkers", "maxWorkers"))
_OTHERS = frozenset(("defaultVersion", "marName", "runtimeType"))
_OF_THE_ARCHIVE = frozenset(each.yaml for each in SETTINGS if each.yaml) - _NUMBERS


@dataclass(frozen=True)
class Idle:
    """Settings that have no effect while a condition holds."""

    names: tuple[str, ...]
    holds: Callable[[Settings], bool]
    reason: str


def _has_tls(settings: Settings) -> bool:
    planes = ("inference_address", "management_address", "metrics_address")
    return settings.enable_grpc_ssl or any(
        addresses.parse(getattr(settings, plane), plane).tls for plane in planes
    )


def _is_grpc_socket(address: str) -> bool:
    return address.startswith(grpc_addresses.UNIX)


def _has_packages(plugins_path: str) -> bool:
    return any(any(path.glob("*.dist-info")) for path in discovery.directories(plugins_path))


_GRPC = tuple(name for name in Settings.model_fields if "grpc" in name and name != "enable_grpc")
RULES = (
    Idle(("token_expiration_min",), lambda given: given.disable_token_auth, "tokens are switched off"),
    Idle(("use_env_allowed_urls",), lambda given: not given.enable_envvars_config,
         "enable_envvars_config is off"),
    Idle(("metrics_address",), lambda given: not given.enable_metrics_api, "enable_metrics_api is off"),
    Idle(("system_metrics_cmd", "metric_time_interval"), lambda given: given.disable_system_metrics,
         "disable_system_metrics is on"),
    Idle(("cors_allowed_methods", "cors_allowed_headers"), lambda given: not given.cors,
         "cors_allowed_origin is empty"),
    Idle(("keystore", "keystore_pass", "keystore_type", "private_key_file", "certificate_file"),
         lambda given: not _has_tls(given), "no address is https://, and enable_grpc_ssl is off"),
    Idle(("private_key_file", "certificate_file"), lambda given: _has_tls(given) and bool(given.keystore),
         "the keystore comes first"),
    Idle(("keystore_pass", "keystore_type"), lambda given: _has_tls(given) and not given.keystore,
         "keystore is empty"),
    Idle(_GRPC, lambda given: not given.enable_grpc, "enable_grpc is off"),
    Idle(("grpc_inference_port",), lambda given: _is_grpc_socket(given.grpc_inference_address),
         "grpc_inference_address is a Unix socket"),
    Idle(("grpc_management_port",), lambda given: _is_grpc_socket(given.grpc_management_address),
         "grpc_management_address is a Unix socket"),
    Idle(("grpc_client_ca_file",), lambda given: given.enable_grpc and not given.enable_grpc_ssl,
         "enable_grpc_ssl is off"),
    Idle(("payload_dir", "max_payload_bytes", "job_payload_dir", "max_job_payload_bytes"),
         lambda given: not given.payload_threshold, "payload_threshold is 0"),
    Idle(("redis_max_memory",), lambda given: bool(given.redis_url), "the Redis is not marq's own"),
    Idle(("model_store_poll_s",), lambda given: not given.watches_model_store, "load_models is not all"),
    Idle(("plugins_path",), lambda given: not _has_packages(given.plugins_path), NO_PLUGINS),
    Idle(("access_log_on_console",), lambda given: not given.access_log, "access_log is off"),
)  # fmt: skip


def idle(settings: Settings) -> Iterator[tuple[str, str]]:
    """The settings that are not as by default and have no effect, each with the reason."""
    for rule in RULES:
        for name in rule.names if rule.holds(settings) else ():
            if getattr(settings, name) != Settings.model_fields[name].get_default(call_default_factory=True):
                yield name, rule.reason


def in_models_json(settings: Settings) -> Iterator[str]:
    """A sentence for each key of the `models` JSON that has no effect."""
    for name, versions in json.loads(settings.model_settings).items():
        for version, chosen in versions.items():
            for key, value in chosen.items():
                if reason := _fault(key, value) or _of_sizes(key, chosen):
                    yield f"{key} of {name} {version} has no effect: {reason}"


def _of_sizes(key: str, chosen: dict[str, object]) -> str:
    """Why `maxWorkers` has no effect; empty for other keys."""
    fewest, most = chosen.get("minWorkers"), chosen.get("maxWorkers")
    is_below = key == "maxWorkers" and isinstance(fewest, int) and isinstance(most, int) and most < fewest
    return f"it must be at least minWorkers, which is {fewest}." if is_below else ""


def _fault(key: str, value: object) -> str:
    """Why a key has no effect; empty if it has one."""
    if key in _OTHERS:
        return ""
    if key in _NUMBERS:
        is_good = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return "" if is_good else "it must be an integer above 0."
    if key in _OF_THE_ARCHIVE:
        return "write it into model-config.yaml."
    like = meant(key, _NUMBERS | _OTHERS)
    return f'did you mean "{like}"?' if like else "there is no such key."
