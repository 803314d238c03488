"""`MAR-INF/MANIFEST.json`: the author of the archive, and the purpose of its files."""

import json
from dataclasses import dataclass

from archive.errors import ArchiveError, InvalidArchive
from archive.formats.names import safe_name

MANIFEST_NAME = "MAR-INF/MANIFEST.json"
RUNTIMES = ("python", "python3", "LSP")
DEFAULT_VERSION = "1.0"

_UPGRADE = "Please upgrade to torch-model-archiver 0.2.0 or higher"


@dataclass(frozen=True)
class Manifest:
    """The manifest as the server reads it; `raw` is the JSON itself, with its own types, for handlers.

    An archive without manifest is legal: `raw` is None then, and everything else has its default. The name
    and the handler may therefore be None and have to come from the request.
    """

    raw: dict[str, object] | None = None
    runtime: str = "python"
    model_name: str | None = None
    model_version: str = DEFAULT_VERSION
    handler: str | None = None
    serialized_file: str | None = None
    model_file: str | None = None
    requirements_file: str | None = None
    config_file: str | None = None
    archiver_version: str | None = None
    created_on: str | None = None

    @classmethod
    def parse(cls, data: bytes | None) -> "Manifest":
        """Reads the JSON (None: there is none) as leniently as TorchServe: unknown keys are ignored and
        numbers are taken for strings. Raises InvalidArchive.
        """
        if data is None:
            return cls()
        fields = _object(data, numbers_as_text=True)
        model = _model(fields)
        return cls(
            raw=_object(data, numbers_as_text=False),
            runtime=_runtime(fields),
            model_name=_text(model, "modelName"),
            model_version=_version(model),
            handler=_text(model, "handler"),
            serialized_file=_text(model, "serializedFile"),
            model_file=_text(model, "modelFile"),
            requirements_file=_file(model, "requirementsFile"),
            config_file=_file(model, "configFile"),
            archiver_version=_text(fields, "archiverVersion"),
            created_on=_text(fields, "createdOn"),
        )

    def registered_name(self, requested: str | None = None) -> str:
        """The name to register: the requested one or the manifest's. Raises InvalidArchive without either."""
        name = requested or self.model_name
        if not name:
            raise InvalidArchive("Model name is not defined.", "Give a model_name with the request.")
        return name

    @property
    def warnings(self) -> tuple[str, ...]:
        """One text for each optional key that the manifest lacks."""
        missing = {"Model archive version": self.archiver_version, "Model archive createdOn": self.created_on}
        return tuple(f"{what} is not defined. {_UPGRADE}" for what, value in missing.items() if not value)


def _unparsable(reason: str) -> InvalidArchive:
    return InvalidArchive("Failed to parse signature.json.", f"{MANIFEST_NAME}: {reason}")


def _object(data: bytes, numbers_as_text: bool) -> dict[str, object]:
    number = str if numbers_as_text else None
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_float=number, parse_int=number)
    except (ValueError, RecursionError) as error:
        raise _unparsable(str(error)) from error
    if not isinstance(value, dict):
        raise _unparsable(f"it must be a JSON object, not {type(value).__name__}.")
    return value


def _model(fields: dict[str, object]) -> dict[str, object]:
    model = fields.get("model", {})
    if model is None:
        raise InvalidArchive("Missing Model entry in manifest file.", "'model' must be an object, not null.")
    if not isinstance(model, dict):
        raise _unparsable("'model' must be an object.")
    return model


def _text(fields: dict[str, object], key: str) -> str | None:
    """A string, None if there is none."""
    value = fields.get(key)
    if isinstance(value, dict | list):
        raise _unparsable(f"{key!r} must be a string.")
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return None
    text = str(value)
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        raise _unparsable(f"{key!r} has half of a character.")
    return text


def _runtime(fields: dict[str, object]) -> str:
    runtime = _text(fields, "runtime") if "runtime" in fields else "python"
    if runtime not in RUNTIMES:
        raise InvalidArchive(
            "Runtime is not defined or invalid.",
            f"'runtime' is {runtime!r}; allowed are {', '.join(RUNTIMES)}.",
        )
    return runtime


def _version(model: dict[str, object]) -> str:
    version = _text(model, "modelVersion")
    if version is None:
        return DEFAULT_VERSION
    if not version.strip():
        raise InvalidArchive("Model version is not defined.", "'modelVersion' is empty.")
    return version


def _file(model: dict[str, object], key: str) -> str | None:
    """The name of a file that the server itself opens, so it must be one of the archive's."""
    name = _text(model, key)
    try:
        return safe_name(name) or None if name else None
    except ArchiveError as error:
        raise type(error)(
            f"{key!r} in {MANIFEST_NAME} does not name a file of the archive: {error}"
        ) from error
