"""A Lua script and how Redis is asked to run it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field


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
