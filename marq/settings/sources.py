"""Collects the values of the settings from all sources.

First wins: `TS_` variables (if the file has `enable_envvars_config=true`, as in TorchServe), the command
line, `MARQ_` variables, config.properties.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marq.settings import properties, torchserve_keys
from marq.settings.retention import SETTINGS_PREFIX
from marq.settings.torchserve_keys import (
    ENVIRONMENT_SWITCH,
    MEANINGLESS,
    OF_SNAPSHOTS,
    SNAPSHOT,
    URLS_SWITCH,
    meant,
)

COMMAND_LINE = "command line"
GUIDE = "docs/compatibility-configuration.md"
LOG_VARIABLE = "LOG_LOCATION"
PLAIN_VARIABLES = {LOG_VARIABLE: "log_location", "METRICS_LOCATION": "metrics_location"}  # as in TorchServe
LIKELY = 0.85  # similarity above which an unknown MARQ_ variable is reported as a typo


@dataclass(frozen=True)
class Given:
    """One value. `source` is its place, `label` its name in errors."""

    value: Any
    source: str
    label: str


@dataclass
class Collected:
    """The winning value of each setting that has one, and the messages for the user."""

    values: dict[str, Given] = field(default_factory=dict)
    without_effect: list[str] = field(default_factory=list)  # a line for each key that marq does not use
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def collect(
    file: Path | None, command_line: Mapping[str, Any], environ: Mapping[str, str], known: Iterable[str]
) -> Collected:
    """`known` are the names of all settings. Raises SettingsError if the file cannot be read."""
    names, found = frozenset(known), Collected()
    if file:
        _add_file(found, properties.read(file, environ), names)
    _add_environment(found, environ, names)
    for name, value in command_line.items():
        if value is not None:
            found.values[name] = Given(value, COMMAND_LINE, name)
    _add_torchserve_environment(found, environ, names)
    return found


def _add_file(found: Collected, lines: Mapping[str, properties.Line], names: frozenset[str]) -> None:
    spelled = torchserve_keys.spelled(names)
    for key, line in lines.items():
        if key in MEANINGLESS:
            found.without_effect.append(f"{line.where}: {key} has no effect: {MEANINGLESS[key]}.")
        elif key in spelled or key in names:
            label = f"{line.where}: {key}"
            found.values[torchserve_keys.setting_name(key)] = Given(line.value, line.where, label)
        elif not line.is_quoted and not (key in OF_SNAPSHOTS and SNAPSHOT in lines):
            hint = torchserve_keys.advice(key, spelled | set(MEANINGLESS)) or f"{GUIDE} lists the keys."
            found.without_effect.append(f'{line.where}: unknown key "{key}" has no effect. {hint}')


def _add_environment(found: Collected, environ: Mapping[str, str], names: frozenset[str]) -> None:
    for variable, name in PLAIN_VARIABLES.items():
        if environ.get(variable):
            found.values[name] = Given(environ[variable], variable, variable)
    variables = {f"{SETTINGS_PREFIX}{name.upper()}": name for name in names}
    for variable in sorted(name for name in environ if name.startswith(SETTINGS_PREFIX)):
        if variable in variables:
            found.values[variables[variable]] = Given(environ[variable], variable, variable)
        elif like := meant(variable, variables, LIKELY):
            found.notices.append(f"{variable} is not a setting. Did you mean {like}?")


def _add_torchserve_environment(found: Collected, environ: Mapping[str, str], names: frozenset[str]) -> None:
    """The values of TorchServe's variables; a variable that needs a missing switch adds a notice."""
    keys = {name: key for key, name in torchserve_keys.RENAMED.items()}
    for name in sorted(names):
        key = keys.get(name, name)
        variable = torchserve_keys.variable(key)
        if variable is None or variable not in environ:
            continue
        switch = _switch(found, key)
        if switch:
            found.notices.append(
                f"{variable} is not used: that needs {switch}=true in config.properties "
                f"(or set {SETTINGS_PREFIX}{name.upper()})."
            )
        else:
            found.values[name] = Given(environ[variable], variable, variable)


def _switch(found: Collected, key: str) -> str:
    """The switch that keeps a TS_ variable from being used, if there is one."""
    if key == "ts_open_inference_protocol":
        return ""
    switches = [ENVIRONMENT_SWITCH, *([URLS_SWITCH] if key == "allowed_urls" else [])]
    return next((switch for switch in switches if not _is_on(found, switch)), "")


def _is_on(found: Collected, switch: str) -> bool:
    return switch in found.values and str(found.values[switch].value).lower() == "true"
