"""Collects the values of the settings from all sources.

First wins: `TS_` variables (if the file has `enable_envvars_config=true`, as in TorchServe), the command
line, `MARQ_` variables, config.properties.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

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
# Variables of TorchServe that are not settings here: the first names the file, the others are for handlers.
OF_HANDLERS = frozenset((properties.FILE_VARIABLE, "TS_IPEX_ENABLE", "TS_IPEX_GPU_ENABLE"))
GUIDE = "docs/compatibility-configuration.md"
LOG_VARIABLE = "LOG_LOCATION"
PLAIN_VARIABLES = {LOG_VARIABLE: "log_location", "METRICS_LOCATION": "metrics_location"}  # as in TorchServe
LIKELY = 0.85  # similarity above which an unknown variable is taken for a typo
# Variables with the same prefix that are not settings: given by users, then by one process to another.
OTHER_VARIABLES = frozenset(
    f"{SETTINGS_PREFIX}{name}"
    for name in (
        *("NODE", "TOKEN"),
        *("GATEWAY", "LISTEN", "LOCAL_TOKEN", "PARENT_PID", "PLAN", "POOL", "REPLICA", "SNAPSHOTS"),
        "CHECKED",
    )
)
# Variables that Kubernetes adds for services whose names begin with "marq".
OF_KUBERNETES = re.compile(r"_(SERVICE_HOST|SERVICE_PORT|PORT)(_[A-Z0-9_]+)?$")


@dataclass(frozen=True)
class Given:
    """One value. `source` is its place, `label` its name in errors."""

    value: object
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
    file: Path | None, command_line: Mapping[str, object], environ: Mapping[str, str], known: Iterable[str]
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
        elif variable not in OTHER_VARIABLES and not OF_KUBERNETES.search(variable):
            like = meant(variable, variables, LIKELY)
            hint = f"Did you mean {like}?" if like else "marq config lists the settings."
            found.notices.append(f"{variable} is not a setting. {hint}")


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
    _note_torchserve_variables(found, environ, names)


def _note_torchserve_variables(found: Collected, environ: Mapping[str, str], names: frozenset[str]) -> None:
    """A notice for each variable that looks like one of TorchServe's and has no effect."""
    of_settings = {torchserve_keys.variable(key) for key in torchserve_keys.spelled(names)} - {None}
    for variable in sorted(set(environ) - of_settings - OF_HANDLERS):
        if not variable.startswith(torchserve_keys.TORCHSERVE_PREFIX):
            continue
        key = variable.removeprefix(torchserve_keys.TORCHSERVE_PREFIX).lower()
        if key in MEANINGLESS:
            found.notices.append(f"{variable} has no effect: {MEANINGLESS[key]}.")
        elif key in torchserve_keys.FILE_ONLY:
            found.notices.append(f"{variable} has no effect: write {key} into config.properties.")
        elif like := meant(variable, [each for each in of_settings if each], LIKELY):
            found.notices.append(f"{variable} is not a variable of TorchServe. Did you mean {like}?")


def _switch(found: Collected, key: str) -> str:
    """The switch that keeps a TS_ variable from being used, if there is one."""
    if key == "ts_open_inference_protocol":
        return ""
    switches = [ENVIRONMENT_SWITCH, *([URLS_SWITCH] if key == "allowed_urls" else [])]
    return next((switch for switch in switches if not is_true(found.values.get(switch))), "")


def is_true(given: Given | None) -> bool:
    """Whether a setting is switched on, before all settings have been read."""
    return given is not None and str(given.value).lower() in ("true", "1", "yes", "on")
