"""The Lua scripts of the queue, from `marq/queue/lua`: one atomic change of state, or one reading, each."""

from marq.connections.scripts import Script, read


def _read(*names: str) -> Script:
    return read("marq.queue", *names)


_RUNS = ("elements", "run_entries", "run_ends", "run_steps", "runs")

SUBMIT = _read("index", "callers", "submit")
PUBLISH = _read("index", "callers", "publish")
REQUEUE = _read("requeue")
DROP = _read("drop")
PART = _read("index", "part")
PROGRESS = _read("index", "progress")
WITHDRAW = _read("seats", "withdraw")
CANCEL = _read("index", "callers", *_RUNS, "cancel")
BURY = _read("index", "bury")
PASS_ON = _read("pass_on")
LETTERS = _read("letters")
REPLAY = _read("index", "replay")
LATE = _read("late")
MISSING = _read("seats", "missing")
BACKLOG = _read("backlog")
DEPTH = _read("depth")
TOTAL = _read("total")
DUE = _read("index", "callers", "due")
CHANGE = _read("change")
RETRY = _read("index", "callers", "retry")
JOBS = _read("index", "jobs")
START_RUN = _read("index", *_RUNS, "start_run")
ADVANCE = _read("index", *_RUNS, "advance")
OVERDUE = _read("index", *_RUNS, "overdue")
CANCEL_RUN = _read("index", *_RUNS, "cancel_run")
