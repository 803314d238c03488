"""All settings of a server, with their types and defaults; `marq.settings.loading` reads them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field

from marq.forms import MOST_FIELDS
from marq.settings import addresses
from marq.settings.retention import SETTINGS_PREFIX, Retention
from marq.settings.state_dir import default_state_dir
from marq.settings.torchserve_keys import ENVIRONMENT_SWITCH, URLS_SWITCH
from marq.settings.value_types import (
    Directories,
    ListenAddress,
    MetricsConfig,
    MetricsMode,
    ModelsJson,
    NotNegative,
    OpenInferenceSwitch,
    Patterns,
    Port,
    Positive,
    WebhookSecret,
)

CHECKED_VARIABLE = f"{SETTINGS_PREFIX}CHECKED"  # the other variables are of `Settings.environment`
SECRET = frozenset(("keystore_pass", "webhook_secret"))  # their values are shown nowhere


class Settings(BaseModel):
    """The settings of all processes of a server. Sizes are bytes, `_s` seconds, `_ms` milliseconds."""

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)  # see `inherited`

    redis_url: str = ""  # empty: start an embedded server
    state_dir: Path = Field(default_factory=default_state_dir)
    model_store: Path | None = None
    model_store_poll_s: Annotated[float, Field(ge=0)] = 0.0  # between looks for new archives; 0: no look
    workflow_store: Path | None = None  # None: the model store
    models: str = ""  # archives to load at the start: "[name=]file,...", or "all"
    model_settings: ModelsJson = "{}"  # TorchServe's `models` JSON: {name: {version: {minWorkers: ...}}}
    model_snapshot: str = ""  # TorchServe's snapshot JSON: takes the place of the two before
    forget_models: bool = False  # `--ncs`: models registered over HTTP do not outlive the server
    enable_envvars_config: bool = False
    use_env_allowed_urls: bool = False

    inference_address: ListenAddress = "http://127.0.0.1:8080"
    management_address: ListenAddress = "http://127.0.0.1:8081"
    metrics_address: ListenAddress = "http://127.0.0.1:8082"
    gateway_workers: Positive = max(1, min(4, (os.cpu_count() or 1) // 2))
    disable_token_auth: bool = False
    token_expiration_min: Annotated[float, Field(ge=0)] = 60.0  # 0: until the next start
    enable_model_api: bool = False
    ts_open_inference_protocol: OpenInferenceSwitch = False

    keystore: Path | None = None
    keystore_pass: str = "changeit"  # noqa: S105 - Java's own default
    keystore_type: str = "PKCS12"
    private_key_file: Path | None = None
    certificate_file: Path | None = None
    cors_allowed_origin: str = ""
    cors_allowed_methods: str = ""
    cors_allowed_headers: str = ""

    enable_grpc: bool = True
    grpc_inference_address: str = "127.0.0.1"  # or unix:/path
    grpc_management_address: str = "127.0.0.1"
    grpc_inference_port: Port = 7070
    grpc_management_port: Port = 7071
    grpc_inference_max_connection_age_ms: Positive = 2**63 - 1
    grpc_management_max_connection_age_ms: Positive = 2**63 - 1
    grpc_inference_max_connection_age_grace_ms: NotNegative = 2**63 - 1
    grpc_management_max_connection_age_grace_ms: NotNegative = 2**63 - 1
    enable_grpc_ssl: bool = False
    grpc_client_ca_file: Path | None = None  # clients must have a certificate of one of these authorities
    enable_grpc_health: bool = True
    enable_grpc_reflection: bool = True

    max_request_size: Positive = 6_553_500
    max_response_size: Positive = 6_553_500
    max_management_request_size: Positive = 1_048_576
    max_url_length: Positive = 16_384
    max_header_size: Positive = 65_536  # names and values of all headers of a request
    max_header_count: Positive = 256
    max_form_fields: Positive = MOST_FIELDS  # or parts of a form
    max_connections: Positive = 10_000  # of one address of one gateway
    max_buffered_bytes: Positive = 2**30  # of the incomplete bodies of a gateway, and of its unread answers
    payload_dir: Path | None = None  # None: in shared memory, or in the state directory where that is small
    payload_threshold: NotNegative = 65_536  # larger bodies and answers are files; 0: none is
    max_payload_bytes: Positive = 2 * 2**30  # of the bodies of a gateway that are files
    job_payload_dir: Path | None = None  # None: in the state directory with the embedded server, else none
    max_job_payload_bytes: Positive = 20 * 2**30  # of the bodies and answers of jobs that are files
    slow_client_timeout: Positive = 60  # seconds
    min_body_rate: NotNegative = 500  # bytes of a body in a second, over each slow_client_timeout; 0: none
    job_queue_size: Positive = 100
    redis_max_memory: int = 0  # of the embedded server; 0: half of the machine's
    max_queued_jobs: Positive = 100_000  # of one model version
    max_queued_bytes: Positive = 4 * 2**30  # of all models
    job_result_ttl_s: Positive = Retention.job_result_ttl_s
    dead_letter_ttl_s: Positive = Retention.dead_letter_ttl_s
    dead_letter_max_bytes: Positive = Retention.dead_letter_max_bytes  # of one model

    job_url_hosts: str = ""  # of input_url and output_url: names, networks, s3://BUCKET; empty: none
    max_fetched_size: Positive = 2**30  # bytes of a body that a replica gets from an input_url

    webhook_allowed_hosts: str = ""  # names and networks, separated by commas; empty: all public ones
    webhook_secret: WebhookSecret = ""  # whsec_...; empty: a random one, in Redis

    celery_bridge: bool = False  # a process that takes tasks of Celery's clients
    celery_broker: str = ""  # of the tasks; empty: marq's Redis
    celery_result_backend: str = ""  # empty: marq's Redis
    celery_queue: Annotated[str, Field(pattern=r"^[\w.:-]{1,100}$")] = "marq"
    celery_key_prefix: str = ""  # `global_keyprefix` of the clients

    default_workers_per_model: NotNegative = 0
    default_response_timeout: Positive = 120
    default_startup_timeout: Positive = 120
    unregister_model_timeout: Positive = 120
    stop_timeout: Positive | None = None  # seconds; None: the longest response time-out of a registered model
    default_service_handler: str = ""
    service_envelope: str = ""
    install_py_dep_per_model: bool = False
    allowed_urls: Patterns = ""
    decode_input_request: bool = True
    limit_max_image_pixels: bool = True
    number_of_gpu: NotNegative | None = None  # None: all that are there
    cpu_launcher_enable: bool = False  # whether CPU replicas are pinned to cores
    blacklist_env_vars: Patterns = ""  # a regular expression of variables that replicas do not see
    ts_header_key_sequence_id: str = "ts_request_sequence_id"
    ts_header_key_sequence_start: str = "ts_request_sequence_start"
    ts_header_key_sequence_end: str = "ts_request_sequence_end"

    enable_metrics_api: bool = True
    metrics_mode: MetricsMode = "log"
    metrics_config: MetricsConfig | None = None
    model_metrics_auto_detect: bool = False
    disable_system_metrics: bool = False
    metric_time_interval: Positive = 60  # seconds
    system_metrics_cmd: str = ""

    log_location: Path | None = None  # None: in the state directory
    metrics_location: Path | None = None  # None: where the other logs are
    log_format: Annotated[str, Field(pattern="^(text|json)$")] = "text"
    access_log: bool = True
    plugins_path: Directories = ""  # directories with packages of plugins, separated by commas
    plugins_left_out: str = ""  # names of plugins that are not used, separated by commas
    strict_config: bool = False  # lines of config.properties without an effect are errors
    access_log_on_console: bool = True  # as well as in the file
    model_log_on_console: bool = True  # the same for the output of handlers

    @property
    def log_dir(self) -> Path:
        return self.log_location or self.state_dir / "logs"

    @property
    def metrics_log_dir(self) -> Path:
        return self.metrics_location or self.log_dir

    @property
    def sequence_headers(self) -> list[str]:
        """The names of the headers of sequences: id, start, end."""
        return [
            self.ts_header_key_sequence_id,
            self.ts_header_key_sequence_start,
            self.ts_header_key_sequence_end,
        ]

    @property
    def metrics_plane(self) -> str:
        """Whose address serves `/metrics`: "metrics", another API's where they are equal, or "" (none)."""
        planes = ("inference", "management", "metrics") if self.enable_metrics_api else ()
        where = {
            plane: addresses.parse(getattr(self, f"{plane}_address"), f"{plane}_address") for plane in planes
        }
        return next((plane for plane in planes if where[plane] == where["metrics"]), "")

    @property
    def watches_model_store(self) -> bool:
        """Whether archives are registered that are put into the model store while the server runs."""
        return self.model_store_poll_s > 0 and self.models.strip().lower() == "all"

    @property
    def unpacked_dir(self) -> Path:
        """The directory of unpacked archives, one for each host and content."""
        return self.state_dir / "models"

    @property
    def model_dirs(self) -> Path:
        """The directory in which each model version has its own copy of its archive's files."""
        return self.state_dir / "model-dirs"

    @property
    def dependencies_dir(self) -> Path:
        """The directory of the packages of models, installed once for each host and requirements."""
        return self.state_dir / "dependencies"

    @property
    def cors(self) -> bool:
        """Whether browsers of other origins may use this server."""
        return bool(self.cors_allowed_origin)

    def model_defaults(self, name: str, version: str) -> dict[str, object]:
        """The `models` JSON's settings for one model version; values that are not positive are left out."""
        chosen = json.loads(self.model_settings).get(name, {}).get(version, {})
        return {k: v for k, v in chosen.items() if not isinstance(v, int) or v > 0}

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for the processes that this one starts."""
        resolved = {ENVIRONMENT_SWITCH, URLS_SWITCH}
        values = self.model_dump(mode="json", exclude_none=True, exclude=resolved)
        variables = {f"{SETTINGS_PREFIX}{name.upper()}": str(value) for name, value in values.items()}
        return {**variables, CHECKED_VARIABLE: "1"}


def kinds(annotation: object) -> Iterator[object]:
    """The types of a field's annotation, without `Annotated` and unions."""
    arguments = get_args(annotation)
    if not arguments:
        yield annotation
    for argument in arguments:
        yield from kinds(argument)
