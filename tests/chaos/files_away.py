"""Cases: files and directories that the server writes are removed, or cannot be written."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
from http_client import Client
from ledger import Ledger
from load import Load
from scale import Scale
from stage import READY_S, Stage, command

from marq.logs import ACCESS_LOG
from marq.registry.token_store import KEY_FILE

MOST_LINES = 100  # of the console, for each fault
RENEWAL = "/token?type=management"
TRIES = 8  # new connections find each of two gateways


async def files_away(stage: Stage, scale: Scale) -> Ledger:
    """Logs and the key file: each process goes on, says so without a flood, and writes again when it can."""
    await stage.until_ready("square")
    processes = _processes(stage)
    logs, key_file = stage.server.state_dir / "logs", stage.server.log.with_name(KEY_FILE)
    async with Load(stage, scale.churn_rate, most_runs=1) as load:
        async with _no_flood(stage, load.ledger, "the logs are removed"):
            shutil.rmtree(logs)
            await _until_written(logs / ACCESS_LOG)
        async with _no_flood(stage, load.ledger, "the logs cannot be written"):
            with _in_the_way(logs):
                await asyncio.sleep(scale.files_away_s)
            await _until_written(logs / ACCESS_LOG)
        async with _no_flood(stage, load.ledger, "the key file cannot be written"):
            tokens = stage.client("API"), stage.client("management")
            with _in_the_way(key_file):
                await _refused_renewal(load.ledger, *tokens)
            await _renewal(stage, load.ledger, *tokens)
    async with stage.registered("leaving"):
        await _known_everywhere(stage, load.ledger)
    if ended := sorted(processes.keys() - _processes(stage).keys()):
        load.ledger.complain(f"ended: {', '.join(processes[pid] for pid in ended)}")
    return load.ledger


async def scoreboards_emptied(stage: Stage, scale: Scale) -> Ledger:
    """The files in which replicas note what they run, cut to nothing while they do."""
    await stage.until_ready("square")
    async with Load(stage, scale.churn_rate) as load:
        for _ in range(scale.flushes):
            await asyncio.sleep(0.5)
            boards = list((stage.server.state_dir / "run").glob("square-*.board"))
            for board in boards:
                os.truncate(board, 0)
            await asyncio.sleep(1.0)
            await stage.until_ready("square")
    load.ledger.notes.insert(0, f"{len(boards)} scoreboards, {scale.flushes} times")
    return load.ledger


def _processes(stage: Stage) -> dict[int, str]:
    found = psutil.Process(stage.server.process.pid).children(recursive=True)
    return {process.pid: " ".join(command(process)[-4:]) for process in found}


@contextlib.asynccontextmanager
async def _no_flood(stage: Stage, ledger: Ledger, fault: str) -> AsyncIterator[None]:
    before = len(stage.server.log.read_text().splitlines())
    yield
    lines = stage.server.log.read_text().splitlines()[before:]
    ledger.notes.append(f"{fault}: {len(lines)} lines")
    if len(lines) > MOST_LINES:
        ledger.complain(f"{fault}: {len(lines)} lines on the console, {lines[-1]} among them")


@contextlib.contextmanager
def _in_the_way(path: Path) -> Iterator[None]:
    """Something else has this name: a file in the place of a directory, a directory in that of a file."""
    away = path.with_suffix(".away")
    path.rename(away)
    if away.is_dir():
        path.touch()
    else:
        (path / "something").mkdir(parents=True)
    try:
        yield
    finally:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        away.rename(path)


async def _until_written(file: Path) -> None:
    """Until a line that has been logged since is in the file."""
    size = file.stat().st_size if file.exists() else 0
    async with asyncio.timeout(READY_S):
        while not file.exists() or file.stat().st_size <= size:
            await asyncio.sleep(0.05)


async def _refused_renewal(ledger: Ledger, api: Client, management: Client) -> None:
    """A token must not change unless it is written: who reads the file could not know it."""
    answer = await api.request("GET", RENEWAL)
    if answer.status < 500 or KEY_FILE.encode() not in answer.body:
        ledger.complain(f"the renewal of a token that cannot be written: {answer.told}")
    old = await management.request("GET", "/models")
    if old.status != 200:
        ledger.complain(f"the token has changed, but was not written: {old.told}")


async def _renewal(stage: Stage, ledger: Ledger, api: Client, old: Client) -> None:
    answer = await api.request("GET", RENEWAL)
    if answer.status != 200:
        ledger.complain(f"the renewal of a token: {answer.told}")
    statuses = []
    for client in (stage.client("management"), old):
        statuses.append((await client.request("GET", "/models")).status)
        client.close()
    api.close()
    if statuses != [200, 400]:
        ledger.complain(f"the statuses of the new token and of the old one: {statuses}")


async def _known_everywhere(stage: Stage, ledger: Ledger) -> None:
    """All gateways have heard of a model that was registered afterwards."""
    for _ in range(TRIES):
        client = stage.client()
        answer = await client.request("POST", "/predictions/leaving", b"3")
        client.close()
        if answer.body != b"9":
            ledger.complain(f"a gateway does not know a model that was registered: {answer.told}")
