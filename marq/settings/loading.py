"""Reads the settings of a server from all sources, with where each comes from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from marq.settings import snapshot, torchserve_values, without_effect
from marq.settings.fields import SECRET, Settings
from marq.settings.properties import SettingsError
from marq.settings.snapshot_files import Snapshots
from marq.settings.sources import Collected, Given, collect, is_true
from marq.settings.state_dir import usual_state_dir
from marq.settings.torchserve_keys import SNAPSHOT

# The values that are allowed, by pydantic's type of the error; its other messages say it well enough.
ALLOWED = {
    "bool_parsing": "must be true or false",
    "int_parsing": "must be a whole number",
    "float_parsing": "must be a number",
}


@dataclass(frozen=True)
class Resolved:
    """Settings, the source of each, and messages for the user about the sources."""

    settings: Settings
    sources: dict[str, str]  # of those that are not left at their defaults
    without_effect: list[str]  # a line for each key of config.properties that marq does not use
    notices: list[str]
    snapshots: Snapshots | None = None  # of a server that the torchserve command starts


def load(config: Path | None = None, **given: object) -> Settings:
    """Reads all sources. `given` are the command line's values; None counts as not given.

    Raises SettingsError.
    """
    return resolve(config, given).settings


def resolve(
    config: Path | None, given: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> Resolved:
    """The same, with where the values come from. Raises SettingsError, which names all that is wrong."""
    found = collect(config, given, environ, Settings.model_fields)
    _use_snapshot(found)
    torchserve_values.use(found, Settings.model_fields)
    if is_true(found.values.get("strict_config")):
        found.problems += found.without_effect
    try:
        settings = Settings.model_validate({name: value.value for name, value in found.values.items()})
    except ValidationError as error:
        found.problems += [_problem(found, details) for details in error.errors()]
    if found.problems:
        warnings = [each for each in (*found.without_effect, *found.notices) if each not in found.problems]
        raise SettingsError("\n".join(found.problems), warnings)
    if "state_dir" not in found.values and settings.state_dir != usual_state_dir():
        found.notices.append(
            f"The home directory cannot be written: state goes to {settings.state_dir}. "
            "--state-dir or MARQ_STATE_DIR names another directory."
        )
    _note_unused(found, settings)
    sources = {name: value.source for name, value in found.values.items()}
    return Resolved(settings, sources, found.without_effect, found.notices)


def _note_unused(found: Collected, settings: Settings) -> None:
    """Adds a notice for each value that is given and has no effect."""
    for name, reason in without_effect.idle(settings):
        if name in found.values:
            found.notices.append(f"{found.values[name].label} has no effect: {reason}.")
    if without_effect.MODELS in found.values and SNAPSHOT not in found.values:
        label = found.values[without_effect.MODELS].label
        found.notices += [f"{label}: {each}" for each in without_effect.in_models_json(settings)]


def _use_snapshot(found: Collected) -> None:
    """TorchServe's `model_snapshot` replaces the other settings that name models."""
    given = found.values.get(SNAPSHOT)
    if given is None or not given.value:
        return
    try:
        models, model_settings = snapshot.translate(str(given.value))
    except ValueError as error:
        found.problems.append(f"{given.label}: {error} (given: {given.value!r:.200})")
    else:
        found.values["models"] = Given(models, given.source, given.label)
        found.values["model_settings"] = Given(model_settings, given.source, given.label)


def _problem(found: Collected, details: ErrorDetails) -> str:
    given = found.values[str(details["loc"][0])]
    message = ALLOWED.get(details["type"]) or details["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "must be", 1)
    shown = "" if details["loc"][0] in SECRET else f" (given: {given.value!r:.200})"
    return f"{given.label}: {message}{shown}"
