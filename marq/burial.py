"""How an entry that is given up becomes a dead letter, and the bounds that dead letters are kept in."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from marq import keys, scripts
from marq.sources import SETTINGS_PREFIX

if TYPE_CHECKING:  # settings need the limits only, and commands are quick without redis-py
    from marq.connection import Command
    from marq.registry import ModelSpec

# With these fields a letter begins, in this order; the others are the entry's own.
ABOUT = ("reason", "version", "lane", "entry", "attempts", "device", "ending", "log")
LONGEST_LOG = 20_000  # characters of what a replica printed last


@dataclass(frozen=True)
class Limits:
    """Of the dead letters of one model."""

    ttl_s: int = 7 * 86_400
    max_bytes: int = 256 * 2**20

    @classmethod
    def from_environment(cls) -> "Limits":
        """As the settings are; every process of a server has them in its environment."""
        return cls(
            int(os.environ.get(f"{SETTINGS_PREFIX}DEAD_LETTER_TTL_S", cls.ttl_s)),
            int(os.environ.get(f"{SETTINGS_PREFIX}DEAD_LETTER_MAX_BYTES", cls.max_bytes)),
        )


@dataclass(frozen=True)
class Death:
    """What is known of a request's end; what is not is empty."""

    reason: str
    attempts: int = 0
    device: str = ""
    ending: str = ""  # what ended the replica: "signal 9", "exit code 3", "response time-out"
    log: str = ""  # the last lines that the replica printed


def bury(
    spec: "ModelSpec", lane: str, entry: bytes, death: Death, acknowledge: bool = True
) -> "list[Command]":
    """The commands that move an entry to its model's dead letters, in one atomic step.

    Without `acknowledge` the entry stays where it is: for a transaction that answers it, too.
    """
    limits = Limits.from_environment()
    values = (
        death.reason, spec.version, lane, entry, death.attempts, death.device, death.ending,
        death.log[-LONGEST_LOG:],
    )  # fmt: skip
    about = (part for pair in zip(ABOUT, values, strict=True) for part in pair)
    move = scripts.BURY.call(
        [keys.dead_letters(spec.name), lane],
        keys.GROUP, entry, int(acknowledge), limits.ttl_s * 1000, limits.max_bytes, *about,
    )  # fmt: skip
    return [("SCRIPT", "LOAD", scripts.BURY.text), move]
