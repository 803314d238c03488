"""Values of config.properties as TorchServe reads them, where marq's own rules are stricter."""

import re
from collections.abc import Mapping
from dataclasses import replace

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from marq.settings.fields import kinds
from marq.settings.retention import SETTINGS_PREFIX
from marq.settings.sources import COMMAND_LINE, Collected, Given

_COMMENT = re.compile(r"\s+#.*", re.DOTALL)
_ADDRESS = "_address"
_BOOLEAN = TypeAdapter(bool)


def use(found: Collected, fields: Mapping[str, FieldInfo]) -> None:
    """Changes values that TorchServe's users have, and adds a message for each.

    A text that is not a boolean counts as false, so does one with a comment behind it. A comment behind a
    number or an address is not part of it. marq's own sources, command line and MARQ_ variables, stay strict.
    """
    for name, given in list(found.values.items()):
        if given.source == COMMAND_LINE or given.source.startswith(SETTINGS_PREFIX):
            continue
        text = given.value
        if not isinstance(text, str):
            continue
        found_kinds = set(kinds(fields[name].annotation))
        if bool in found_kinds:
            _read_boolean(found, name, given)
        elif found_kinds & {int, float} or name.endswith(_ADDRESS):
            _drop_comment(found, name, given, text)


def _read_boolean(found: Collected, name: str, given: Given) -> None:
    if given.value == "oip":  # of ts_open_inference_protocol
        return
    try:
        _BOOLEAN.validate_python(given.value)
    except ValidationError:
        found.values[name] = replace(given, value=False)
        found.without_effect.append(
            f"{given.label}: {given.value!r} counts as false, as in TorchServe. Write true or false."
        )


def _drop_comment(found: Collected, name: str, given: Given, text: str) -> None:
    value = _COMMENT.sub("", text)
    if value != text:
        found.values[name] = replace(given, value=value)
        found.notices.append(f"{given.label}: {text[len(value) :].strip()!r} is not part of the value.")
