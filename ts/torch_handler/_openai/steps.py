"""The progress of a generation, as an engine reports it."""

from collections.abc import Sequence
from typing import NamedTuple


class Token(NamedTuple):
    """A generated token. `alternatives`: the most probable ones at its place, with log probabilities."""

    text: str
    logprob: float
    alternatives: Sequence[tuple[str, float]]


class Step(NamedTuple):
    """Everything that is generated so far; `tokens` is empty unless the request wants log probabilities."""

    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    tokens: Sequence[Token] = ()
