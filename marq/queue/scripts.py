"""The Lua scripts of the queue, from `marq/queue/lua`: one atomic change of state, or one reading, each."""

from marq.connections.scripts import Script, read


def _read(name: str) -> Script:
    return read("marq.queue", name)


SUBMIT = _read("submit")
PUBLISH = _read("publish")
REQUEUE = _read("requeue")
DROP = _read("drop")
PART = _read("part")
WITHDRAW = _read("withdraw")
CANCEL = _read("cancel")
BURY = _read("bury")
PASS_ON = _read("pass_on")
LETTERS = _read("letters")
REPLAY = _read("replay")
LATE = _read("late")
MISSING = _read("missing")
BACKLOG = _read("backlog")
DEPTH = _read("depth")
TOTAL = _read("total")
