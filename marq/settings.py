"""All settings of a server: one class, one reader of the environment and of config.properties.

Order, first wins: command line, environment (`MARQ_*`), config.properties, default.
"""

import json
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import javaproperties
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from marq.errors import MarqError

SETTINGS_PREFIX = "MARQ_"
# config.properties keys whose names differ here
RENAMED = {
    "disable_token_authorization": "disable_token_auth",
    "load_models": "models",
    "models": "model_settings",
}


class SettingsError(MarqError):
    """Raised for a setting that cannot be read; names it, its source and what is allowed."""


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/marq`, or `~/.local/state/marq`."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
    return Path(base) / "marq"


class Settings(BaseSettings):
    """What every process of a server needs to know. Sizes are bytes, `_s` seconds, `_ms` milliseconds."""

    model_config = SettingsConfigDict(env_prefix=SETTINGS_PREFIX, extra="ignore", frozen=True)

    redis_url: str = ""  # empty: start an embedded server
    state_dir: Path = default_state_dir()
    model_store: Path | None = None
    models: str = ""  # what to load at start: "[name=]file,...", or "all"
    model_settings: str = "{}"  # TorchServe's `models` JSON: {name: {version: {minWorkers: ...}}}

    inference_address: str = "http://127.0.0.1:8080"
    management_address: str = "http://127.0.0.1:8081"
    gateway_workers: int = max(1, min(4, (os.cpu_count() or 1) // 2))
    disable_token_auth: bool = False
    token_expiration_min: float = 0.0  # 0: tokens last until the next start
    enable_model_api: bool = False

    max_request_size: int = 6_553_500
    max_response_size: int = 6_553_500
    job_queue_size: int = 100
    job_result_ttl_s: int = 3600

    default_workers_per_model: int = 0
    default_response_timeout: int = 120
    default_startup_timeout: int = 120
    unregister_model_timeout: int = 120
    default_service_handler: str = ""
    service_envelope: str = ""
    allowed_urls: str = ""
    decode_input_request: bool = True
    limit_max_image_pixels: bool = True
    number_of_gpu: int | None = None  # None: all that are there

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def unpacked_dir(self) -> Path:
        """Where archives are unpacked, once for each host and content."""
        return self.state_dir / "models"

    def model_defaults(self, name: str, version: str) -> dict[str, Any]:
        """The `models` JSON's settings for one model version; values that are not positive are left out."""
        chosen = json.loads(self.model_settings).get(name, {}).get(version, {})
        return {k: v for k, v in chosen.items() if not isinstance(v, int) or v > 0}

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for the processes that this one starts."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"{SETTINGS_PREFIX}{name.upper()}": str(value) for name, value in values.items()}


def load(config: Path | None = None, **given: Any) -> Settings:
    """Reads all sources. `given` are the command line's values; None counts as not given.

    Raises SettingsError.
    """
    given = {name: value for name, value in given.items() if value is not None}
    from_file = _without_environment(read_properties(config)) if config else {}
    try:
        settings = Settings(**{**from_file, **given})
        _check(settings)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise SettingsError(f"{name}: {first['msg']} (given: {first['input']!r})") from None
    return settings


def read_properties(path: Path) -> dict[str, str]:
    """A config.properties under our names; `$$NAME$$` becomes the variable's value. Raises SettingsError."""
    try:
        stored: dict[str, str] = javaproperties.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"--ts-config file cannot be read: {path}: {error}") from error
    return {RENAMED.get(name, name): _expand(value) for name, value in stored.items()}


def _expand(value: str) -> str:
    parts = value.split("$$")
    for i in range(1, len(parts) - 1, 2):
        if parts[i] not in os.environ:
            raise SettingsError(f"Invalid Environment Variable {parts[i]}")
        parts[i] = os.environ[parts[i]]
    return "".join(parts) if len(parts) % 2 else value


def _without_environment(values: dict[str, str]) -> dict[str, str]:
    """Drops what the environment sets: it wins over the file."""
    return {name: v for name, v in values.items() if f"{SETTINGS_PREFIX}{name.upper()}" not in os.environ}


def _check(settings: Settings) -> None:
    for name in ("inference_address", "management_address"):
        parse_address(getattr(settings, name), name)
    try:
        models = json.loads(settings.model_settings)
    except ValueError:
        models = None
    if not _is_nested(models, 3):
        raise SettingsError(
            "models: must be a JSON object {name: {version: {...}}}, "
            f"but is not (given: {settings.model_settings!r:.200})"
        )
    for pattern in settings.allowed_urls.split(","):
        try:
            re.compile(pattern)
        except re.error as error:
            raise SettingsError(f"allowed_urls: {pattern!r} is no regular expression: {error}") from None


def _is_nested(value: Any, depth: int) -> bool:
    """Whether a value is an object of objects, so many levels deep."""
    return isinstance(value, dict) and (
        depth == 1 or all(_is_nested(inner, depth - 1) for inner in value.values())
    )


def parse_address(address: str, name: str) -> tuple[str, int]:
    """(host, port) of an address. Raises SettingsError."""
    parts = urlsplit(address)
    try:
        default = 8081 if name == "management_address" else 80
        port = default if parts.port is None else parts.port
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or port == 0:
        raise SettingsError(f"{name}: Invalid binding address: {address}. Write it as http://host:port")
    return parts.hostname, port
