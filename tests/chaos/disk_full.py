"""Case: the disk with the state directory is full: logs, payload files, and the append-only file of Redis."""

import asyncio
import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
from http_client import Broken
from ledger import Ledger
from load import Load
from redis_cases import REFUSED
from scale import Scale
from stage import READY_S, Stage

SIZE = "64m"
MOST_LINES = 40  # of the console, for all processes of a server with one model
PING_S = 30.0


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[bool]:
    """A file system of its own; False where this user may not mount one."""
    place.mkdir(parents=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "tmpfs", place], capture_output=True
    )
    try:
        yield made.returncode == 0
    finally:
        if made.returncode == 0:
            subprocess.run(["umount", "--lazy", place], check=True)


async def disk_full(stage: Stage, scale: Scale) -> Ledger:
    """Refusals while it is full, few lines that say why, and the same processes afterwards."""
    replicas = set(await stage.until_ready("square"))
    processes = processes_of(stage)
    before = len(lines_of(stage))
    async with Load(stage, scale.churn_rate, designed=REFUSED, most_runs=1) as load:
        await asyncio.sleep(1.0)
        with load.excused(), _full(stage.server.state_dir):
            await until_ping(stage, 500)
            await asyncio.sleep(scale.files_away_s)
        with load.excused():
            await until_ping(stage, 200)
        await asyncio.sleep(1.0)
    lines = lines_of(stage)[before:]
    load.ledger.notes.insert(0, f"{len(lines)} lines")
    if len(lines) > MOST_LINES:
        load.ledger.complain(f"{len(lines)} lines on the console, {lines[-1]} among them")
    if not any("No space left on device" in line for line in lines):
        load.ledger.complain("the console does not say that the disk is full")
    if ended := processes - processes_of(stage):
        load.ledger.complain(f"{len(ended)} processes have ended")
    if replicas != set(await stage.until_ready("square")):
        load.ledger.complain("there are other replicas")
    return load.ledger


@contextlib.contextmanager
def _full(directory: Path) -> Iterator[None]:
    file = directory / "rest"
    subprocess.run(["dd", "if=/dev/zero", f"of={file}", "bs=64k"], capture_output=True)
    try:
        yield
    finally:
        file.unlink()


async def until_ping(stage: Stage, status: int) -> None:
    """Until all gateways that are asked say so: each asks a new connection."""
    seen = 0
    async with asyncio.timeout(READY_S + PING_S):
        while seen < 8:
            client = stage.client()
            try:
                answer = await client.request("GET", "/ping", timeout_s=PING_S)
                seen = seen + 1 if answer.status == status else 0
            except (Broken, TimeoutError):
                seen = 0
            finally:
                client.close()
            await asyncio.sleep(0.1)


def processes_of(stage: Stage) -> set[int]:
    return {process.pid for process in psutil.Process(stage.server.process.pid).children(recursive=True)}


def lines_of(stage: Stage) -> list[str]:
    return stage.server.log.read_text().splitlines()
