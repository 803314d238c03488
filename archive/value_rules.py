"""Rules for the values of `model-config.yaml`: which are allowed, and what each is converted to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

MAX_INT = 2**31 - 1  # TorchServe reads Java ints


@dataclass(frozen=True)
class Rule:
    """How a key is read: `convert` returns the value to use, or raises ValueError if it is not `allowed`."""

    field: str
    allowed: str
    convert: Callable[[object], object]


def integer(field: str, least: int, *, unset: int | None = None) -> Rule:
    """An integer of at least `least`; `unset` counts as not given."""

    def convert(value: object) -> int | None:
        if not _is_int(value) or value < least:
            raise ValueError
        return None if value == unset else value

    return Rule(field, f"an integer of at least {least}", convert)


def raised(field: str) -> Rule:
    """An integer; one below 1 counts as 1."""

    def convert(value: object) -> int:
        if not _is_int(value):
            raise ValueError
        return max(1, value)

    return Rule(field, "an integer", convert)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and -MAX_INT - 1 <= value <= MAX_INT


def boolean(field: str) -> Rule:
    def convert(value: object) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    return Rule(field, "true or false", convert)


def string(field: str) -> Rule:
    def convert(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError
        return value

    return Rule(field, "a string", convert)


def choice(field: str, *choices: str, **others: str) -> Rule:
    """`others`: further names of a choice."""

    def convert(value: object) -> str:
        if not isinstance(value, str) or value.lower() not in (*choices, *others):
            raise ValueError
        return others.get(value.lower(), value.lower())

    return Rule(field, "one of " + ", ".join((*choices, *others)), convert)
