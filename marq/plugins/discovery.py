"""Finds plugins: entry points of installed packages and of directories. Makes the objects that they name."""

import importlib.metadata
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marq.errors import MarqError
from marq.plugins.protocols import GROUPS, VERSION

INSTALLED = "installed"


class PluginError(MarqError):
    """Raised for a plugin that cannot be used; names it and the reason."""


@dataclass(frozen=True)
class Found:
    """One entry point. `place` is a directory of `plugins_path`, or "installed"."""

    group: str
    name: str
    value: str  # module:attribute
    package: str
    version: str
    place: str = INSTALLED

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.group} {self.name} (package {self.package} {self.version}, {self.place})"


@dataclass(frozen=True)
class Plugin:
    """A plugin that can be used."""

    found: Found
    made: Any  # has the protocol of its group


def directories(plugins_path: str) -> list[Path]:
    """The directories that the setting `plugins_path` names, separated by commas or colons.

    A `/*` at the end, as TorchServe's users write it, is not part of one.
    """
    items = plugins_path.replace(":", ",").split(",")
    paths = (item.strip().removesuffix("*") for item in items)
    return [Path(path).absolute() for path in paths if path]


def find(plugins_path: str = "", left_out: str = "") -> list[Found]:
    """All plugins, sorted by group and name: that is their order. Nothing is imported.

    `left_out`: names, separated by commas, of plugins that are not to be used. Raises PluginError where two
    packages have a plugin of the same name in the same group.
    """
    unwanted = {name.strip() for name in left_out.split(",")}
    found: dict[tuple[str, str], Found] = {}
    for each in _all(directories(plugins_path)):
        if each.name in unwanted:
            continue
        known = found.setdefault((each.group, each.name), each)
        if known.package != each.package:
            raise PluginError(
                f"Two plugins have the same name: {known.label}, {each.label}. "
                f"plugins_left_out={each.name} leaves both out."
            )
    return [found[key] for key in sorted(found)]


def _all(paths: Iterable[Path]) -> Iterator[Found]:
    """Installed packages come first: imports find these first, too."""
    yield from _in(importlib.metadata.distributions(), INSTALLED)
    for path in paths:
        yield from _in(importlib.metadata.distributions(path=[str(path)]), str(path))


def _in(distributions: Iterable[importlib.metadata.Distribution], place: str) -> Iterator[Found]:
    for distribution in distributions:
        for point in distribution.entry_points:
            if point.group in GROUPS:
                name = distribution.metadata["Name"]
                yield Found(point.group, point.name, point.value, name, distribution.version, place)


def load(found: Found) -> Plugin:
    """Imports a plugin and makes it. Raises PluginError, whatever the plugin raises."""
    _add_to_path(found.place)
    point = importlib.metadata.EntryPoint(found.name, found.value, found.group)
    try:
        made = point.load()()
        protocol = getattr(made, "protocol", None)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{found.label} cannot be loaded: {type(error).__name__}: {error}") from error
    if protocol != VERSION:
        raise PluginError(
            f"{found.label} is for version {protocol} of the protocols of plugins, this marq has {VERSION}"
        )
    if missing := [name for name in GROUPS[found.group] if not hasattr(made, name)]:
        raise PluginError(f"{found.label} lacks {', '.join(missing)}")
    return Plugin(found, made)


def load_group(group: str, plugins_path: str, left_out: str = "") -> list[Plugin]:
    """The plugins of one group in their order. Raises PluginError."""
    return [load(found) for found in find(plugins_path, left_out) if found.group == group]


def load_named(group: str, name: str, plugins_path: str, left_out: str = "") -> Plugin:
    """One plugin. Raises PluginError if there is none of that name."""
    found = [each for each in find(plugins_path, left_out) if each.group == group]
    for each in found:
        if each.name == name:
            return load(each)
    there = ", ".join(each.name for each in found) or "none"
    raise PluginError(f"There is no plugin {name} in the group {group}; found: {there}")


def _add_to_path(place: str) -> None:
    """Behind all others, so that a directory of plugins replaces no package of the server."""
    if place != INSTALLED and place not in sys.path:
        sys.path.append(place)


def describe(plugin: Plugin) -> str:
    """The part of marq that a plugin hooks, in a few words."""
    made, group = plugin.made, plugin.found.group
    match group.removeprefix("marq."):
        case "authorizers":
            return f"every request, by its headers {_joined(made.headers)}"
        case "batching":
            return f"models with batching: {plugin.found.name}"
        case "endpoints":
            return f"the {made.plane} address"
        case "observers":
            return "every finished prediction and job"
        case _:
            return f"archives at {_joined(f'{scheme}://' for scheme in made.schemes)}"


def _joined(items: Iterable[str]) -> str:
    return ", ".join(items) or "-"
