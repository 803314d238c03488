"""Lua scripts: how they are called, and what happens where Redis does not know one.

Redis forgets its scripts when it restarts, fails over or is flushed. A call that it answers with NOSCRIPT has
done nothing: its script is loaded and the call sent again, once. So no script has to be loaded in advance.
The call may then run after the commands that follow it in a pipeline: those must not depend on it.
A transaction would take effect without the call: there the scripts are loaded first.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Self

import hiredis
from redis.exceptions import NoScriptError

from marq.connections.commands import Reply
from marq.connections.urls import Command


class Script(bytes):
    """The SHA-1 of a script, by which Redis calls it, with the script's text."""

    text: str

    def __new__(cls, text: str) -> Self:
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        script = super().__new__(cls, digest.encode())
        script.text = text
        return script

    def call(self, keys: Sequence[str | bytes], *args: object) -> Command:
        """The EVALSHA command for these keys and arguments."""
        return ("EVALSHA", self, len(keys), *keys, *args)


@dataclass(frozen=True)
class Rerun:
    """The calls of a pipeline that must be sent again: `commands` loads their scripts first."""

    places: list[int]  # of the calls in the pipeline
    commands: list[Command]

    def merge(self, replies: list[Reply], again: Sequence[Reply]) -> None:
        """Puts the replies of `commands` where those of the first attempt were."""
        for place, reply in zip(self.places, again[-len(self.places) :], strict=True):
            replies[place] = reply


def read(package: str, *names: str) -> Script:
    """The script NAME.lua in the package's folder `lua`; several names: one script of all their texts."""
    return Script("".join(files(package).joinpath("lua", f"{name}.lua").read_text() for name in names))


def join(*parts: Script) -> Script:
    """One script of the texts of several, also of several packages."""
    return Script("".join(part.text for part in parts))


def loads(commands: Iterable[Command]) -> list[Command]:
    """The commands that load the scripts which these commands call."""
    scripts = dict.fromkeys(script for command in commands if (script := _script_of(command)))
    return [("SCRIPT", "LOAD", script.text) for script in scripts]


def rerun(commands: Sequence[Command], replies: Sequence[Reply]) -> Rerun | None:
    """The calls whose scripts Redis does not know; None if it knows all.

    All script calls after the first such call are among them, so that their order stays: a script of marq
    that runs twice changes nothing the second time.
    """
    first = next((place for place, reply in enumerate(replies) if _is_unknown(reply)), None)
    if first is None:
        return None
    places = [place for place in range(first, len(commands)) if _script_of(commands[place])]
    calls = [commands[place] for place in places]
    return Rerun(places, [*loads(calls), *calls])


def _script_of(command: Command) -> Script | None:
    script = command[1] if len(command) > 1 else None
    return script if isinstance(script, Script) else None


def _is_unknown(reply: Reply) -> bool:
    """Whether a reply of hiredis or redis-py is NOSCRIPT."""
    if isinstance(reply, hiredis.ReplyError):
        return str(reply).startswith("NOSCRIPT")
    return isinstance(reply, NoScriptError)
