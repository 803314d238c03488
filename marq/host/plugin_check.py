"""Loads all plugins once in a process of its own, so that none of them can hang or crash the start."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TypedDict

from marq.plugins import discovery
from marq.plugins.discovery import Found, PluginError
from marq.settings.fields import Settings

START_LIMIT_S = 60.0  # for the process
LOAD_LIMIT_S = 60.0  # for each plugin
ADVICE = "Mend it, remove it, or leave it out with plugins_left_out={} in config.properties."


@dataclass(frozen=True)
class Checked:
    """A plugin after its trial. `hooks`: what it adds to; empty where there is an `error`."""

    found: Found
    hooks: str = ""
    error: str = ""


class Outcome(TypedDict, total=False):
    """What the trial of one plugin has found, or the `problem` of a trial that did not end."""

    ends: int
    hooks: str
    error: str
    problem: str


def check(settings: Settings) -> None:
    """Raises PluginError, which names every plugin that cannot be used. Quick where there are none."""
    if faults := [each for each in examine(settings) if each.error]:
        names = ",".join(dict.fromkeys(each.found.name for each in faults))
        raise PluginError("\n".join([*(f"{each.error}." for each in faults), ADVICE.format(names)]))


def examine(settings: Settings, limit_s: float = LOAD_LIMIT_S) -> list[Checked]:
    """All plugins in their order, each with what it hooks or its error. Raises PluginError as `find`."""
    found = discovery.find(settings.plugins_path, settings.plugins_left_out)
    return list(_tried(settings, found, limit_s)) if found else []


def _tried(settings: Settings, found: list[Found], limit_s: float) -> Iterator[Checked]:
    trial = subprocess.Popen(
        [sys.executable, "-P", "-m", "gateway.trial"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env={**os.environ, **settings.environment()},
        text=True,
    )
    answers: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert trial.stdout  # noqa: S101 - it is a pipe
    threading.Thread(target=_read, args=(trial.stdout, answers), daemon=True).start()
    try:
        for each in found:
            outcome = _outcome(answers, limit_s)
            if "ends" in outcome:
                yield Checked(each, outcome.get("hooks", ""), outcome.get("error", ""))
                continue
            yield Checked(each, error=f"{each.label} {outcome['problem']}")
            return
    finally:
        trial.kill()
        trial.wait()


def _outcome(answers: "queue.SimpleQueue[str]", limit_s: float) -> Outcome:
    """The next plugin's line, or what is wrong with the process that tries it."""
    outcome: Outcome = {}
    for timeout_s in (max(START_LIMIT_S, limit_s), limit_s):  # it begins, it ends
        try:
            line = answers.get(timeout=timeout_s)
        except queue.Empty:
            return {"problem": f"has not been loaded within {timeout_s:g} s"}
        if not line:
            return {"problem": "ends the process that loads it"}
        outcome = json.loads(line)
    return outcome


def _read(lines: IO[str], answers: "queue.SimpleQueue[str]") -> None:
    for line in lines:
        answers.put(line)
    answers.put("")
