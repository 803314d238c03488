"""The keys of TorchServe's config.properties as marq understands them; its own settings may stand there."""

import difflib
from collections.abc import Iterable

from marq.settings.properties import FILE_VARIABLE

# keys whose settings have another name
RENAMED = {
    "disable_token_authorization": "disable_token_auth",
    "load_models": "models",
    "models": "model_settings",
}
TORCHSERVE_PREFIX = "TS_"
# variables of TorchServe that are not `TS_` and the key in capitals
TORCHSERVE_VARIABLES = {
    "TS_TOKEN_EXPIRATION_TIME_MIN": "token_expiration_min",
    "TS_OPEN_INFERENCE_PROTOCOL": "ts_open_inference_protocol",
    "TS_HEADER_KEY_SEQUENCE_ID": "ts_header_key_sequence_id",
    "TS_HEADER_KEY_SEQUENCE_START": "ts_header_key_sequence_start",
    "TS_HEADER_KEY_SEQUENCE_END": "ts_header_key_sequence_end",
}
# keys that TorchServe reads from the file only
FILE_ONLY = frozenset(
    (
        *("models", "model_snapshot", "use_env_allowed_urls", "enable_envvars_config", "use_native_io"),
        *("metric_time_interval", "system_metrics_cmd", "io_ratio", "python", "vmargs", "plugins_path"),
    )
)
ENVIRONMENT_SWITCH = "enable_envvars_config"
URLS_SWITCH = "use_env_allowed_urls"
SNAPSHOT = "model_snapshot"
SNAPSHOT_FILE = "tsConfigFile"  # the config file of the server that wrote the snapshot
OF_SNAPSHOTS = frozenset((SNAPSHOT_FILE, "version"))  # keys that only say where a snapshot comes from

# Keys without an effect in marq, with the reason. docs/compatibility-configuration.md lists them; a
# start logs those that are given.
_NETTY = "marq has no Netty; gateway_workers sets how many processes answer"
_JAVA = "marq has no Java"
MEANINGLESS = {
    "number_of_netty_threads": _NETTY,
    "netty_client_threads": _NETTY,
    "prefer_direct_buffer": _NETTY,
    "use_native_io": _NETTY,
    "io_ratio": _NETTY,
    "vmargs": _JAVA,
    "async_logging": "the access log is written in the background anyway",
    "initial_worker_port": "replicas listen on no port: requests come through Redis",
    "initial_distribution_port": "the processes of a replica find a free port themselves",
    "model_server_home": "marq is where it is installed",
    "python": "replicas run with marq's own interpreter",
    "debug": "workers cannot be started by hand",
    "cpp_log_config": "marq does not have a C++ backend",
    "cpu_launcher_args": "with cpu_launcher_enable, replicas get equal shares of the cores",
    "ipex_enable": "Intel's extension is part of PyTorch now; a handler can import it itself",
    "ipex_gpu_enable": "Intel's extension is part of PyTorch now; a handler can import it itself",
}


# Keys that people write here although they belong elsewhere, in lower case.
_OF_A_MODEL = "It belongs to a model: {} in model-config.yaml, or the parameter {} of POST /models."
ELSEWHERE = {
    **{
        parameter: _OF_A_MODEL.format(yaml, parameter)
        for parameter, yaml in (
            ("batch_size", "batchSize"),
            ("max_batch_delay", "maxBatchDelay"),
            ("response_timeout", "responseTimeout"),
            ("startup_timeout", "startupTimeout"),
            ("min_worker", "minWorkers"),
            ("max_worker", "maxWorkers"),
            ("initial_workers", "minWorkers"),
        )
    },
    "min_workers": _OF_A_MODEL.format("minWorkers", "initial_workers"),
    "max_workers": _OF_A_MODEL.format("maxWorkers", "initial_workers"),
    "gpu_id": "It belongs to a model: deviceIds in model-config.yaml. For all models: CUDA_VISIBLE_DEVICES.",
    "num_workers": 'Did you mean "default_workers_per_model"?',
    "metrics_format": 'Did you mean "metrics_mode"? The metrics API answers in the format of Prometheus.',
    "config_path": f"The variable {FILE_VARIABLE} or --ts-config names the file.",
    "tsconfigfile": "TorchServe writes it into its snapshots.",
    "version": "TorchServe writes it into its snapshots.",
    "enable_token_auth": 'Did you mean "disable_token_authorization"?',
}


def advice(key: str, known: Iterable[str]) -> str:
    """The known key that is most like an unknown one; empty if none is like it."""
    plain = key.strip().lower().replace("-", "_").replace(".", "_")
    if plain in ELSEWHERE:
        return ELSEWHERE[plain]
    like = meant(plain, known)
    return f'Did you mean "{like}"?' if like else ""


def spelled(settings: Iterable[str]) -> frozenset[str]:
    """The keys of these settings in config.properties; marq's own name of a renamed one is not among them."""
    return frozenset(settings) - set(RENAMED.values()) | set(RENAMED)


def setting_name(key: str) -> str:
    """The setting that a key of the file stands for."""
    return RENAMED.get(key, key)


def variable(key: str) -> str | None:
    """The `TS_` variable of a key, None if it has none."""
    if key in FILE_ONLY:
        return None
    special = (name for name, other in TORCHSERVE_VARIABLES.items() if other == key)
    return next(special, f"{TORCHSERVE_PREFIX}{key.upper()}")


def meant(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most similar to this one, None if all differ."""
    return next(iter(difflib.get_close_matches(name, list(known), 1, cutoff)), None)
