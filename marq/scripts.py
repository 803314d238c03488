"""The Lua scripts: one atomic change of state each, loaded from `marq/lua`."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files


@dataclass(frozen=True)
class Script:
    """A script's text and its SHA-1, by which Redis calls it."""

    text: str
    sha: bytes = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest.encode())

    def call(self, keys: Sequence[str | bytes], *args: object) -> tuple[object, ...]:
        """The EVALSHA command for these keys and arguments."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


def load(name: str) -> Script:
    return Script(files("marq").joinpath("lua", f"{name}.lua").read_text())


SUBMIT = load("submit")
PUBLISH = load("publish")
REQUEUE = load("requeue")
PART = load("part")
WITHDRAW = load("withdraw")
CANCEL = load("cancel")
BURY = load("bury")
LETTERS = load("letters")
REPLAY = load("replay")
MISSING = load("missing")
BACKLOG = load("backlog")
_EVERY = (SUBMIT, PUBLISH, REQUEUE, PART, WITHDRAW, CANCEL, BURY, LETTERS, REPLAY, MISSING, BACKLOG)
ALL = {script.sha: script for script in _EVERY}
