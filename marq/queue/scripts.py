"""The Lua scripts of the queue, from `marq/queue/lua`: one atomic change of state, or one reading, each."""

from marq.connections.scripts import Script, join, read


def _read(*names: str) -> Script:
    return read("marq.queue", *names)


_INDEX = ("ends", "index")
_RUNS = ("elements", "run_record", "run_entries", "run_ends", "run_steps", "runs")

SUBMIT = _read(*_INDEX, "callers", "submit")
PUBLISH = _read(*_INDEX, "callers", "job_backoff", "publish")
MOVED = _read("moved")  # for scripts that move entries
REQUEUE = join(MOVED, _read("requeue"))
DROP = _read("drop")
PART = _read(*_INDEX, "part")
PROGRESS = _read(*_INDEX, "progress")
WITHDRAW = _read("seats", "withdraw")
CANCEL = _read(*_INDEX, "callers", *_RUNS, "cancel")
BURY = _read(*_INDEX, "bury")
PASS_ON = join(MOVED, _read("pass_on"))
LETTERS = _read("letters")
REPLAY = _read(*_INDEX, "replay")
LATE = _read("late")
MISSING = _read("seats", "missing")
BACKLOG = _read("backlog")
DEPTH = _read("depth")
TOTAL = _read("total")
DUE = _read(*_INDEX, "callers", "due")
CHANGE = _read("change")
OPEN_GROUP = _read("open_group")
CLOSE_GROUP = _read("ends", "close_group")
RETRY = _read(*_INDEX, "callers", "retry")
JOBS = _read(*_INDEX, "jobs")
START_RUN = _read(*_INDEX, *_RUNS, "start_run")
ADVANCE = _read(*_INDEX, *_RUNS, "advance")
OVERDUE = _read(*_INDEX, *_RUNS, "overdue")
CANCEL_RUN = _read(*_INDEX, *_RUNS, "cancel_run")
