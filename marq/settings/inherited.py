"""The settings of a process that a server starts: the server has checked them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from marq.settings import loading
from marq.settings.fields import CHECKED_VARIABLE, Settings, kinds
from marq.settings.retention import SETTINGS_PREFIX


def load(environ: Mapping[str, str] = os.environ) -> Settings:
    """Those of `Settings.environment`, as they are: pydantic's rules for them take 8 MB.

    A process that was started by hand reads and checks all sources, and raises SettingsError.
    """
    if CHECKED_VARIABLE not in environ:
        return loading.load()
    values = {
        name: _value(set(kinds(field.annotation)), environ[variable])
        for name, field in Settings.model_fields.items()
        if (variable := f"{SETTINGS_PREFIX}{name.upper()}") in environ
    }
    return Settings.model_construct(**values)


def _value(found: set[object], text: str) -> Any:
    if bool in found:
        return text == str(True)
    kind = next(kind for kind in (int, float, Path, str) if kind in found)
    return kind(text)
