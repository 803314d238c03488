"""Case: two servers on one Redis and one host, and a node that has the name of another."""

import asyncio
import json
import subprocess

from archives import MODELS
from crashes import until
from http_client import TEXT
from ledger import Ledger
from load import Load
from scale import Scale
from stage import Stage
from support import MARQ

from marq import keys

JOBS = 8


async def until_shared(first: Stage, second: Stage) -> None:
    """Returns when replicas of both nodes answer, and no others start or end."""
    await until(lambda: second.number_of_replicas("square"), "replicas of the second server")
    await first.until_ready("square")
    await until(
        lambda: sum(each.number_of_replicas("square") for each in (first, second)) == MODELS["square"],
        "the end of others",
    )


async def both(first: Stage, scale: Scale, second: Stage) -> Ledger:
    """Jobs that take long, on two of everything, run once each."""
    async with (
        first.registered("holding"),
        Load(first, scale.churn_rate, most_runs=1, others=[second]) as load,
    ):
        refused = await asyncio.to_thread(_third_node, first)
        if refused.returncode != 1 or "runs already" not in refused.stdout + refused.stderr:
            load.ledger.complain(f"a node of the same name has started: {refused}")
        numbers = [next(first.numbers) for _ in range(JOBS)]
        stages = [first, second] * (JOBS // 2)
        jobs = zip(stages, numbers, strict=True)
        await asyncio.gather(*(_job(stage, load.ledger, number, scale.hold_s) for stage, number in jobs))
    runs = first.runs()
    if again := {number: runs[number] for number in numbers if runs[number] != 1}:
        load.ledger.complain(f"jobs of {scale.hold_s:g} s have run so often: {again}")
    ran = sum(runs[number] for number in numbers)
    load.ledger.notes.insert(0, f"{JOBS} jobs of {scale.hold_s:g} s ran {ran} times")
    return load.ledger


async def _job(stage: Stage, ledger: Ledger, number: int, hold_s: float) -> None:
    client = stage.client()
    ledger.accepted += 1
    body = f"{number} hold {hold_s:g}".encode()
    submitted = await client.request("POST", "/jobs/holding", body, TEXT)
    job = json.loads(submitted.body)["job_id"]
    answer = await client.request("GET", f"/jobs/{job}/result?wait=50")
    client.close()
    if answer.status == 200 and answer.body == str(number**2).encode():
        ledger.right += 1
    else:
        ledger.lose(f"job {job}: {answer.told}")


def _third_node(stage: Stage) -> "subprocess.CompletedProcess[str]":
    """The end of a node that wants the name of one that runs."""
    with stage.redis() as client:
        name = client.zrange(keys.NODES, 0, 0)[0].decode()
    directory = stage.directory / "third"
    return subprocess.run(
        [MARQ, "node", "--redis-url", stage.redis_url, "--state-dir", directory, "--name", name],
        capture_output=True, text=True, env=stage.server.environment, timeout=60,
    )  # fmt: skip
