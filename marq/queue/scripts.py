"""The Lua scripts of the queue: one atomic change of state each, loaded from `marq/queue/lua`."""

from importlib.resources import files

from marq.connections.scripts import Script


def load(name: str) -> Script:
    return Script(files("marq.queue").joinpath("lua", f"{name}.lua").read_text())


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

# for redis-py, which loads a script when Redis lacks it
DEPTH = load("depth")
TOTAL = load("total")
