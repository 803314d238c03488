"""The types of settings that have rules of their own. A value that breaks one is a ValueError."""

import base64
import json
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from marq.plugins.discovery import directories
from marq.settings import addresses


def _check_address(value: str, info: ValidationInfo) -> str:
    addresses.parse(value, info.field_name or "")
    return value


def _understand_oip(value: object) -> object:
    return True if value == "oip" else value


def _check_secret(value: str) -> str:
    try:
        key = base64.b64decode(value.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if value and not (value.startswith("whsec_") and 24 <= len(key) <= 64):
        raise ValueError("must be whsec_ and the base64 of 24 to 64 bytes, but is not")
    return value


def _make_absolute(value: str) -> str:
    return ",".join(map(str, directories(value)))


def _ignore_case(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _check_metrics_config(value: Path) -> Path:
    from marq.metrics import config as metrics_config  # reads YAML, which most commands do without

    try:
        metrics_config.read(value)
    except metrics_config.MetricsConfigError as error:
        raise ValueError(str(error)) from None
    return value


def _check_models_json(value: str) -> str:
    try:
        models = json.loads(value)
    except (ValueError, RecursionError):
        models = None
    if not _is_nested(models, 3):
        raise ValueError("must be a JSON object {name: {version: {...}}}, but is not")
    return value


def _is_nested(value: object, depth: int) -> bool:
    """Whether a value is an object of objects of this depth."""
    return isinstance(value, dict) and (
        depth == 1 or all(_is_nested(inner, depth - 1) for inner in value.values())
    )


def _check_patterns(value: str) -> str:
    for pattern in value.split(","):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
    return value


Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Port = Annotated[int, Field(gt=0, lt=65536)]
ListenAddress = Annotated[str, AfterValidator(_check_address)]
Directories = Annotated[str, AfterValidator(_make_absolute)]
Patterns = Annotated[str, AfterValidator(_check_patterns)]  # regular expressions, separated by commas
WebhookSecret = Annotated[str, AfterValidator(_check_secret)]
ModelsJson = Annotated[str, AfterValidator(_check_models_json)]
MetricsConfig = Annotated[Path, AfterValidator(_check_metrics_config)]
MetricsMode = Annotated[str, Field(pattern="^(log|prometheus|legacy)$"), BeforeValidator(_ignore_case)]
OpenInferenceSwitch = Annotated[bool, BeforeValidator(_understand_oip)]
