"""Every key of TorchServe's config.properties: accepted, with its variable and its effect on the settings."""

import re
from pathlib import Path

import pytest

import marq
from marq.settings import torchserve_keys
from marq.settings.fields import Settings
from marq.settings.loading import resolve

METRICS = Path(marq.__file__).with_name("metrics") / "metrics.yaml"
LONG_MAX = str(2**63 - 1)
MODELS = '{"m": {"1.0": {"minWorkers": 2}}}'
SNAPSHOT = '{"models": {"m": {"1.0": {"marName": "m.mar"}}}}'
# key, variable (None: none), a value, the setting, what it becomes
HONOURED = [
    ("inference_address", "TS_INFERENCE_ADDRESS", "http://0.0.0.0:1", "inference_address", "http://0.0.0.0:1"),
    ("management_address", "TS_MANAGEMENT_ADDRESS", "https://h:2", "management_address", "https://h:2"),
    ("metrics_address", "TS_METRICS_ADDRESS", "http://h:3", "metrics_address", "http://h:3"),
    ("grpc_inference_address", "TS_GRPC_INFERENCE_ADDRESS", "0.0.0.0", "grpc_inference_address", "0.0.0.0"),
    ("grpc_management_address", "TS_GRPC_MANAGEMENT_ADDRESS", "::", "grpc_management_address", "::"),
    ("grpc_inference_port", "TS_GRPC_INFERENCE_PORT", "9", "grpc_inference_port", 9),
    ("grpc_management_port", "TS_GRPC_MANAGEMENT_PORT", "9", "grpc_management_port", 9),
    *(
        (key, f"TS_{key.upper()}", LONG_MAX, key, 2**63 - 1)
        for key in (
            "grpc_inference_max_connection_age_ms", "grpc_inference_max_connection_age_grace_ms",
            "grpc_management_max_connection_age_ms", "grpc_management_max_connection_age_grace_ms",
        )
    ),
    ("enable_grpc_ssl", "TS_ENABLE_GRPC_SSL", "true", "enable_grpc_ssl", True),
    ("ts_open_inference_protocol", "TS_OPEN_INFERENCE_PROTOCOL", "oip", "ts_open_inference_protocol", True),
    ("model_store", "TS_MODEL_STORE", "/m", "model_store", Path("/m")),
    ("load_models", "TS_LOAD_MODELS", "a.mar,b=c.mar", "models", "a.mar,b=c.mar"),
    ("models", None, MODELS, "model_settings", MODELS),
    ("model_snapshot", None, SNAPSHOT, "models", "m=m.mar"),
    ("default_workers_per_model", "TS_DEFAULT_WORKERS_PER_MODEL", "3", "default_workers_per_model", 3),
    ("default_response_timeout", "TS_DEFAULT_RESPONSE_TIMEOUT", "3", "default_response_timeout", 3),
    ("default_startup_timeout", "TS_DEFAULT_STARTUP_TIMEOUT", "3", "default_startup_timeout", 3),
    ("unregister_model_timeout", "TS_UNREGISTER_MODEL_TIMEOUT", "3", "unregister_model_timeout", 3),
    ("job_queue_size", "TS_JOB_QUEUE_SIZE", "3", "job_queue_size", 3),
    ("max_request_size", "TS_MAX_REQUEST_SIZE", "3", "max_request_size", 3),
    ("max_response_size", "TS_MAX_RESPONSE_SIZE", "3", "max_response_size", 3),
    ("limit_max_image_pixels", "TS_LIMIT_MAX_IMAGE_PIXELS", "false", "limit_max_image_pixels", False),
    ("decode_input_request", "TS_DECODE_INPUT_REQUEST", "false", "decode_input_request", False),
    ("default_service_handler", "TS_DEFAULT_SERVICE_HANDLER", "h.py:f", "default_service_handler", "h.py:f"),
    ("service_envelope", "TS_SERVICE_ENVELOPE", "body", "service_envelope", "body"),
    ("install_py_dep_per_model", "TS_INSTALL_PY_DEP_PER_MODEL", "true", "install_py_dep_per_model", True),
    ("allowed_urls", "TS_ALLOWED_URLS", "https://a/.*", "allowed_urls", "https://a/.*"),
    ("use_env_allowed_urls", None, "true", "use_env_allowed_urls", True),
    ("enable_envvars_config", None, "true", "enable_envvars_config", True),
    ("enable_model_api", "TS_ENABLE_MODEL_API", "true", "enable_model_api", True),
    ("disable_token_authorization", "TS_DISABLE_TOKEN_AUTHORIZATION", "true", "disable_token_auth", True),
    ("token_expiration_min", "TS_TOKEN_EXPIRATION_TIME_MIN", "0.5", "token_expiration_min", 0.5),
    ("ts_header_key_sequence_id", "TS_HEADER_KEY_SEQUENCE_ID", "x", "ts_header_key_sequence_id", "x"),
    ("ts_header_key_sequence_start", "TS_HEADER_KEY_SEQUENCE_START", "x", "ts_header_key_sequence_start",
     "x"),
    ("ts_header_key_sequence_end", "TS_HEADER_KEY_SEQUENCE_END", "x", "ts_header_key_sequence_end", "x"),
    ("enable_metrics_api", "TS_ENABLE_METRICS_API", "false", "enable_metrics_api", False),
    ("metrics_mode", "TS_METRICS_MODE", "prometheus", "metrics_mode", "prometheus"),
    ("metrics_config", "TS_METRICS_CONFIG", str(METRICS), "metrics_config", METRICS),
    ("model_metrics_auto_detect", "TS_MODEL_METRICS_AUTO_DETECT", "true", "model_metrics_auto_detect", True),
    ("disable_system_metrics", "TS_DISABLE_SYSTEM_METRICS", "true", "disable_system_metrics", True),
    ("metric_time_interval", None, "5", "metric_time_interval", 5),
    ("system_metrics_cmd", None, "collect", "system_metrics_cmd", "collect"),
    ("plugins_path", None, "/a:/b/*", "plugins_path", "/a,/b"),
    ("number_of_gpu", "TS_NUMBER_OF_GPU", "0", "number_of_gpu", 0),
    ("cpu_launcher_enable", "TS_CPU_LAUNCHER_ENABLE", "true", "cpu_launcher_enable", True),
    ("blacklist_env_vars", "TS_BLACKLIST_ENV_VARS", "AWS_.*", "blacklist_env_vars", "AWS_.*"),
    ("cors_allowed_origin", "TS_CORS_ALLOWED_ORIGIN", "https://a", "cors_allowed_origin", "https://a"),
    ("cors_allowed_methods", "TS_CORS_ALLOWED_METHODS", "GET", "cors_allowed_methods", "GET"),
    ("cors_allowed_headers", "TS_CORS_ALLOWED_HEADERS", "x-a", "cors_allowed_headers", "x-a"),
    ("keystore", "TS_KEYSTORE", "/k.p12", "keystore", Path("/k.p12")),
    ("keystore_pass", "TS_KEYSTORE_PASS", "secret", "keystore_pass", "secret"),
    ("keystore_type", "TS_KEYSTORE_TYPE", "PKCS12", "keystore_type", "PKCS12"),
    ("private_key_file", "TS_PRIVATE_KEY_FILE", "/k.pem", "private_key_file", Path("/k.pem")),
    ("certificate_file", "TS_CERTIFICATE_FILE", "/c.pem", "certificate_file", Path("/c.pem")),
]  # fmt: skip
MEANINGLESS = [
    *("number_of_netty_threads", "netty_client_threads", "initial_worker_port", "initial_distribution_port"),
    *("prefer_direct_buffer", "use_native_io", "io_ratio", "async_logging"),
    *("cpu_launcher_args", "ipex_enable", "ipex_gpu_enable", "model_server_home", "cpp_log_config", "debug"),
    *("python", "vmargs"),
]
DOCUMENT = Path(__file__).parents[3] / "docs" / "compatibility-configuration.md"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "config.properties"


@pytest.mark.parametrize(("key", "value", "setting", "becomes"), [(k, v, s, b) for k, _, v, s, b in HONOURED])
def test_the_key_of_the_file_is_honoured(file, key, value, setting, becomes):
    file.write_text(f"{key}={value}\n")
    resolved = resolve(file, {}, {})
    assert getattr(resolved.settings, setting) == becomes
    assert resolved.sources[setting] == f"{file}:1"


@pytest.mark.parametrize(
    ("key", "variable", "value", "setting", "becomes"), [row for row in HONOURED if row[1]]
)
def test_the_variable_is_honoured(file, key, variable, value, setting, becomes):
    file.write_text("enable_envvars_config=true\nuse_env_allowed_urls=true\n")
    resolved = resolve(file, {}, {variable: value})
    assert getattr(resolved.settings, setting) == becomes
    assert resolved.sources[setting] == variable


@pytest.mark.parametrize("key", [key for key, variable, *_ in HONOURED if variable is None])
def test_the_key_has_no_variable(key):
    assert torchserve_keys.variable(key) is None


@pytest.mark.parametrize("key", MEANINGLESS)
def test_the_key_is_accepted_and_told_to_have_no_effect(file, key):
    file.write_text(f"{key}=anything\n")
    resolved = resolve(file, {}, {})
    reason = torchserve_keys.MEANINGLESS[key]
    assert resolved.without_effect == [f"{file}:1: {key} has no effect: {reason}."]
    assert resolved.settings == Settings()


def test_all_meaningless_keys_are_tested():
    assert set(MEANINGLESS) == set(torchserve_keys.MEANINGLESS)


@pytest.mark.parametrize("key", [*(key for key, *_ in HONOURED), *MEANINGLESS])
def test_the_key_is_documented(key):
    assert re.search(rf"`{key}`", DOCUMENT.read_text())
