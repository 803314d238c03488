"""YAML of others, read within bounds: a short text can stand for a huge value, or take hours to read."""

import yaml

from archive.errors import InvalidArchive, UnsafeArchive

MOST_BYTES = 1 << 20
MOST_VALUES = 50_000
MOST_DEPTH = 100
MOST_DIGITS = 100  # of a number: TorchServe reads Java ints
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """A SafeLoader that counts nodes, levels, merged keys and digits."""

    def __init__(self, text: str | bytes) -> None:
        super().__init__(text)
        self._nodes = self._depth = self._merged = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        if self._nodes > MOST_VALUES:
            raise UnsafeArchive(f"it has more than {MOST_VALUES} values")
        if self._depth > MOST_DEPTH:
            raise UnsafeArchive(f"it is nested deeper than {MOST_DEPTH} levels")
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys (`<<`) of merge keys multiply: counts them before they are copied."""
        for key, value in node.value:
            if key.tag == _MERGE:
                merged = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for each in merged:
                    if isinstance(each, yaml.MappingNode):
                        self.flatten_mapping(each)
                        self._merged += len(each.value)
                        if self._merged > MOST_VALUES:
                            raise UnsafeArchive(f"its merge keys expand to more than {MOST_VALUES} values")
        super().flatten_mapping(node)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        _check_digits(node)
        return int(super().construct_yaml_int(node))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        _check_digits(node)
        return float(super().construct_yaml_float(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def load_map(text: str | bytes, name: str) -> dict[object, object]:
    """The map of keys in the text of the file `name`; empty if the text is.

    Raises InvalidArchive, or UnsafeArchive if it is beyond the bounds above.
    """
    if len(text) > MOST_BYTES:
        raise UnsafeArchive(f"{name} has {len(text)} bytes; at most {MOST_BYTES} are read.")
    try:
        raw = _Loader(text).get_single_data()
    except UnsafeArchive as error:
        raise UnsafeArchive(f"{name} is not read: {error}.") from None
    # PyYAML lets KeyError, AttributeError and others through for values that do not fit their tags.
    except Exception as error:
        raise InvalidArchive(f"Failed to parse model config file {name}: {_place(error)}") from error
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InvalidArchive(f"The model config file {name} must be a map of keys, not {type(raw).__name__}.")
    _check_size(raw, name)
    return raw


def _check_digits(node: yaml.ScalarNode) -> None:
    if len(node.value) > MOST_DIGITS:
        line = node.start_mark.line + 1
        raise UnsafeArchive(f"the number in line {line} has more than {MOST_DIGITS} digits")


def _place(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return f"{type(error).__name__}: {error}"


def _check_size(raw: object, name: str) -> None:
    """Aliases let a short YAML stand for an endless value, which would show only when it is copied."""
    waiting, seen = [raw], 0
    while waiting:
        value = waiting.pop()
        children = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        if isinstance(children, list | tuple | set):
            seen += len(children)
            waiting += children
        if seen > MOST_VALUES:
            raise UnsafeArchive(f"The aliases in {name} expand to more than {MOST_VALUES} values.")
