"""What a case leaves behind: keys, files and processes that were not there before, gateways that are gone."""

import asyncio
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
from archives import MODELS
from http_client import Broken, Client
from stage import Stage, command

SETTLE_S = 60.0
TRIES = 8  # new connections find each of two gateways
# Of jobs, dead letters, batches and counters of models; they are bounded by age, size and number. And the
# queues of the pools of the models that are always there: they are written again after Redis was emptied.
KEPT_KEYS = re.compile(
    r"marq:\{\w+\}:(job|jobs|parts|dead|metrics)\b.*|marq:job-stores"
    r"|_kombu\.binding(_permanent)?\.marq"  # of clients of the bridge
    r"|marq:(replies|metrics|openai|webhooks|management)\b.*"
    rf"|marq:celery:_kombu\.binding(\.celery\.pidbox|_deadlines|(_permanent)?\.({'|'.join(MODELS)})\.1\.0)"
)
KEPT_FILES = re.compile(
    r"(logs|redis|models|model-dirs|job-payloads|batch-files)(/.*)?|payloads(/[^/]+)?"
    r"|server\.json|stop-limit|lock"
)


@dataclass(frozen=True)
class Remains:
    """All that a server has at one moment."""

    keys: frozenset[str]  # that do not expire
    files: frozenset[str]  # in its state directory
    processes: Counter[str]  # by what they are
    gateways: frozenset[int]

    @classmethod
    def of(cls, stage: Stage) -> "Remains":
        state = stage.server.state_dir
        files = (str(path.relative_to(state)) for path in state.rglob("*"))
        return cls(
            frozenset(key for key in _standing_keys(stage) if not KEPT_KEYS.fullmatch(key)),
            frozenset(file for file in files if not KEPT_FILES.fullmatch(file)),
            Counter(_role(process) for process in _processes(stage)),
            frozenset(process.pid for process in stage.gateways),
        )

    def differences(self, before: "Remains", same_gateways: bool) -> list[str]:
        found = [
            *(f"the key {key} is left" for key in sorted(self.keys - before.keys)),
            *(f"the file {file} is left" for file in sorted(self.files - before.files)),
            *(
                f"left running: {number} x {role}"
                for role, number in (self.processes - before.processes).items()
            ),
            *(
                f"not running: {number} x {role}"
                for role, number in (before.processes - self.processes).items()
            ),
        ]
        if same_gateways and self.gateways != before.gateways:
            found.append("a gateway has ended")
        return found


async def left_behind(stage: Stage, before: Remains, same_gateways: bool) -> list[str]:
    """How a server differs from what it was after it had time to settle; empty as soon as it does not."""
    deadline = asyncio.get_running_loop().time() + SETTLE_S
    while found := await _differences(stage, before, same_gateways):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.2)
    return found


async def _differences(stage: Stage, before: Remains, same_gateways: bool) -> list[str]:
    found = (await asyncio.to_thread(Remains.of, stage)).differences(before, same_gateways)
    # A gateway that was stopped itself has not heard of Redis for long, until it looks again.
    return [*found, *[answer for _ in range(TRIES) if (answer := await _ping(stage))]]


async def _ping(stage: Stage) -> str:
    """Why the gateway of a new connection is not well; empty if it is."""
    client: Client = stage.client()
    try:
        answer = await client.request("GET", "/ping", timeout_s=SETTLE_S)
    except (Broken, TimeoutError) as error:
        return f"a gateway does not answer: {error!r}"
    finally:
        client.close()
    return "" if answer.status == 200 else f"a gateway is not well: {answer.told}"


def _standing_keys(stage: Stage) -> list[str]:
    with stage.redis() as client:
        found = list(client.scan_iter(count=1000))
        with client.pipeline(transaction=False) as pipe:
            for key in found:
                pipe.ttl(key)
            return [key.decode() for key, ttl in zip(found, pipe.execute(), strict=True) if ttl == -1]


def _processes(stage: Stage) -> list[psutil.Process]:
    """Those below the server, and others that have its environment."""
    found = {each.pid: each for each in psutil.Process(stage.server.process.pid).children(recursive=True)}
    for process in psutil.process_iter():
        if process.pid not in found and _environment(process) == str(stage.server.state_dir):
            found[process.pid] = process
    return [process for pid, process in found.items() if pid != stage.server.process.pid]


def _environment(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("MARQ_STATE_DIR", ""))
    except (psutil.Error, OSError):
        return ""


def _role(process: psutil.Process) -> str:
    """`workers.node`, `gateway`, the name of a pool, or of a program."""
    words = command(process)
    if "workers.pool" in words:
        return words[words.index("workers.pool") + 1].partition("@")[0]
    modules = [word for word in words if word == "gateway" or word.startswith("workers.")]
    return modules[0] if modules else Path(words[0]).name if words else "a process that has ended"
