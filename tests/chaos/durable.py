"""Cases: what marq keeps for those who do not wait: messages, groups, times, retries, batches, tasks."""

import asyncio
import json
import time
from collections import defaultdict
from typing import Any

from celery_service import celery_service
from http_client import TEXT
from ledger import Ledger
from scale import Scale
from stage import Stage
from under_fire import AGAIN_S, BRIDGE, ENDED_S, GATEWAY, MODEL, REDIS, REPLICA, UnderFire, under_fire
from webhook_receiver import Received, receiving

from marq import keys

BETWEEN_S = 0.1
LINES = 40  # of a group
BATCH_LINES = 400  # of a file of OpenAI's Batch API
TASKS = 20  # of Celery, at a time
CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "cancelled", "expired")
FAIL_FIRST = "fails at first"  # in a body: the handler fails it once


async def webhooks(stage: Stage, scale: Scale) -> Ledger:
    """Each job that was accepted has a message; one that comes twice has the same id."""
    jobs: set[str] = set()
    async with under_fire(stage) as site:
        with receiving((500, ""), (500, "")) as receiver:
            async with site.fire(scale.durable_s, GATEWAY, REPLICA, REDIS):
                while site.is_on:
                    _, job = await _submit(site, {"X-Marq-Webhook": receiver.url})
                    jobs.add(job)
                    await asyncio.sleep(BETWEEN_S)
            await site.until(
                lambda: jobs <= set(_by(receiver.received, "job_id")) and _none_is_due(stage),
                "the messages of all jobs",
            )
        _judge_messages(site.ledger, _by(receiver.received, "job_id"), jobs)
    return site.ledger


async def groups(stage: Stage, scale: Scale) -> Ledger:
    """A batch that is sent until its answer is whole has each line once, and one message at its end."""
    sent: set[str] = set()
    async with under_fire(stage) as site:
        with receiving() as receiver:
            async with site.fire(scale.durable_s, GATEWAY, REPLICA, REDIS):
                while site.is_on:
                    sent.add(await _send_group(site, receiver.url))
                    await asyncio.sleep(BETWEEN_S)
            await site.until(
                lambda: sent <= set(_by(receiver.received, "group")) and _none_is_due(stage),
                "the messages of all groups",
            )
        messages = _by(receiver.received, "group")
        _judge_messages(site.ledger, messages, sent)
        for group in sent & set(messages):
            told = messages[group][-1].json["data"]
            now = (await site.accepted("GET", f"/jobs/groups/{group}")).json()
            if not told["counts"]["succeeded"] == told["jobs"] == now["counts"]["succeeded"] == LINES:
                site.ledger.complain(f"{group} has other jobs than its {LINES}: {told}, {now}")
    return site.ledger


async def schedule(stage: Stage, scale: Scale) -> Ledger:
    """Jobs of later that fail at first: none starts too early, each is tried again and ends right."""
    asked = {"X-Marq-Retries": "5", "X-Marq-Retry-Delay": "0.5"}
    jobs: dict[str, tuple[int, float]] = {}
    async with under_fire(stage) as site:
        async with site.fire(scale.durable_s, GATEWAY, REPLICA, REDIS):
            while site.is_on:
                due = time.time() + scale.durable_s / 2
                headers = {**asked, "X-Marq-Not-Before": f"{due:.3f}"}
                number, job = await _submit(site, headers, FAIL_FIRST)
                jobs[job] = number, due
                await asyncio.sleep(BETWEEN_S)
        await asyncio.gather(*(site.judge(number, job) for job, (number, _) in jobs.items()))
        for job, (_, due) in jobs.items():
            record = (await site.accepted("GET", f"/jobs/{job}")).json()
            if record["started"] < due:
                site.ledger.complain(f"{job} has started {due - record['started']:.3f} s too early")
    return site.ledger


async def batch_files(stage: Stage, scale: Scale) -> Ledger:
    """Each line of a batch of OpenAI's API is in its output file, once."""
    batches: dict[str, list[int]] = {}
    async with under_fire(stage) as site:
        async with site.fire(scale.durable_s, GATEWAY, REPLICA, REDIS):
            while site.is_on:
                batch, numbers = await _create_batch(site)
                batches[batch] = numbers
                site.ledger.accepted += len(numbers)
                await asyncio.sleep(scale.durable_s / 5)
        await asyncio.gather(*(_judge_batch(site, batch, numbers) for batch, numbers in batches.items()))
    site.ledger.notes.append(f"{len(batches)} batches")
    return site.ledger


async def bridge(stage: Stage, scale: Scale) -> Ledger:
    """Each task that a client of Celery has sent has its result."""
    url = stage.server.marq("redis-url").stdout.strip()
    async with under_fire(stage) as site:
        with celery_service(url, url) as service:

            async def run(code: str, **arguments: Any) -> Any:
                return await asyncio.to_thread(service.run, code, **arguments)

            await run("app.sent = {}")
            async with site.fire(scale.durable_s, BRIDGE, REPLICA, GATEWAY):
                while site.is_on:
                    numbers = [next(stage.numbers) for _ in range(TASKS)]
                    code = "app.sent |= {n: predict(model, str(n)).apply_async() for n in numbers}"
                    await run(code, model=MODEL, numbers=numbers)
                    site.ledger.accepted += TASKS
                    await asyncio.sleep(BETWEEN_S)
            code = "return [[n, sent.get(timeout=most)] for n, sent in app.sent.items()]"
            for number, result in await run(code, most=ENDED_S):
                if int(result) == number**2:
                    site.ledger.right += 1
                else:
                    site.ledger.lose(f"the task of {number}: {result!r:.200}")
    return site.ledger


async def _submit(site: UnderFire, headers: dict[str, str], words: str = "") -> tuple[int, str]:
    """The number and the id of a job that was accepted."""
    number = next(site.stage.numbers)
    given = {**TEXT, **headers, "Idempotency-Key": f"{site.stage.directory}/{number}"}
    body = f"{number} {words}".encode()
    answer = await site.accepted("POST", f"/jobs/{MODEL}", content=body, headers=given)
    site.ledger.accepted += 1
    return number, answer.json()["job_id"]


async def _send_group(site: UnderFire, url: str) -> str:
    """The id of a group, when the whole answer to its batch has come."""
    numbers = [next(site.stage.numbers) for _ in range(LINES)]
    key = f"{site.stage.directory}/{numbers[0]}"
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": key, "X-Marq-Webhook": url}
    body = "\n".join(map(str, numbers)).encode()
    while True:
        answer = await site.accepted("POST", f"/jobs/{MODEL}:batch", content=body, headers=headers)
        total = json.loads(answer.text.splitlines()[-1])
        if total.get("queued") == LINES:
            site.ledger.accepted += 1
            return str(total["group"])
        await asyncio.sleep(AGAIN_S)


async def _create_batch(site: UnderFire) -> tuple[str, list[int]]:
    numbers = [next(site.stage.numbers) for _ in range(BATCH_LINES)]
    lines = [
        {
            "custom_id": str(number), "method": "POST", "url": CHAT,
            "body": {"model": MODEL, "messages": [{"role": "user", "content": str(number)}]},
        }
        for number in numbers
    ]  # fmt: skip
    content = "\n".join(map(json.dumps, lines)).encode()
    file = await site.accepted(
        "POST", "/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}
    )
    asked = {"input_file_id": file.json()["id"], "endpoint": CHAT, "completion_window": "24h"}
    return (await site.accepted("POST", "/v1/batches", json=asked)).json()["id"], numbers


async def _judge_batch(site: UnderFire, batch: str, numbers: list[int]) -> None:
    deadline = time.monotonic() + ENDED_S
    while (now := (await site.accepted("GET", f"/v1/batches/{batch}")).json())["status"] not in ENDED:
        if time.monotonic() > deadline:
            site.ledger.lose(f"{batch} has not ended: {now}")
            return
        await asyncio.sleep(AGAIN_S)
    if now["status"] != "completed" or not now["output_file_id"]:
        site.ledger.lose(f"{batch} is {now}")
        return
    output = (await site.accepted("GET", f"/v1/files/{now['output_file_id']}/content")).text
    answers = [json.loads(line) for line in output.splitlines()]
    found = [int(each["custom_id"]) for each in answers]
    site.ledger.duplicated += len(found) - len(set(found))
    told = {int(each["custom_id"]): each["response"]["body"]["choices"][0]["message"] for each in answers}
    for number in numbers:
        if told.get(number, {}).get("content") == str(number**2):
            site.ledger.right += 1
        else:
            site.ledger.lose(f"line {number} of {batch}: {told.get(number)}")


def _none_is_due(stage: Stage) -> bool:
    """Whether all messages have been taken."""
    with stage.redis() as client:
        return not client.exists(keys.webhooks(MODEL, "due"))


def _by(taken: list[Received], what: str) -> dict[str, list[Received]]:
    """The messages by what they are about."""
    found = defaultdict(list)
    for each in list(taken):
        if what in (data := each.json["data"]):
            found[data[what]].append(each)
    return dict(found)


def _judge_messages(ledger: Ledger, messages: dict[str, list[Received]], wanted: set[str]) -> None:
    again = sum(len(some) - 1 for some in messages.values())
    ledger.notes.append(f"{again} messages came again, with their ids")
    for about in wanted:
        if about in messages:
            ledger.right += 1
            ledger.duplicated += len({each.id for each in messages[about]}) - 1
        else:
            ledger.lose(f"no message about {about}")
