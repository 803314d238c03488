"""Case: a model is unregistered while producers, clients and uploads use it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio
from http_client import TEXT, Broken, Client, Response
from ledger import Ledger
from load import ANSWER_S, TRY_AGAIN_S, Load
from scale import Scale
from stage import SETTLE_S, Stage
from uploads import Upload

from marq import keys

MODEL = "leaving"
REPLIES = "chaos-replies"  # where producers read
GONE = (404, 503)  # what a request of an unregistered model is answered with
UPLOADS = 10
PAUSE_S = 0.01  # between two requests of one client
BUSY_S = 0.5
PADDING = 70_000  # of every other body: more than the threshold for files


async def unregistered(stage: Stage, scale: Scale) -> Ledger:
    """Each request of the leaving model has an answer, and nothing of it stays; others do not notice."""
    ledger = Ledger()
    async with Load(stage, scale.churn_rate, most_runs=1) as load:
        for _ in range(scale.removals):
            await _one_removal(stage, ledger)
    for key in await stage.until_no_keys_of(MODEL):
        ledger.complain(f"{key} is left of a model that was unregistered")
    ledger.notes.append(f"unregistered {scale.removals} times")
    ledger.add(load.ledger)
    return ledger


async def _one_removal(stage: Stage, ledger: Ledger) -> None:
    ended = asyncio.Event()
    async with stage.registered(MODEL), _producer(stage) as producer:
        client = stage.client()
        users = [
            asyncio.create_task(work)
            for work in (
                producer.add_until(ended),
                _predict_until(ended, stage, client, ledger),
                _submit_until(ended, stage, client, ledger),
            )
        ]
        uploads = [
            await Upload.begin(stage, f"/{plane}/{MODEL}", 2 * PADDING)
            for plane in ("predictions", "jobs") * (UPLOADS // 2)
        ]
        await asyncio.sleep(BUSY_S)
        await stage.manage("DELETE", f"/models/{MODEL}/1.0")
        for upload in uploads:
            await _judge_upload(upload, ledger)
        ended.set()
        await asyncio.gather(*users)
        await producer.judge(ledger)
        client.close()


async def _judge_upload(upload: Upload, ledger: Ledger) -> None:
    """Its model was unregistered while the body was on its way."""
    ledger.accepted += 1
    status = await upload.finish()
    if status in GONE:
        ledger.right += 1
    else:
        ledger.lose(f"an upload to a model that was unregistered meanwhile: {status}")


async def _predict_until(ended: asyncio.Event, stage: Stage, client: Client, ledger: Ledger) -> None:
    while not ended.is_set():
        number = next(stage.numbers)
        body = str(number).ljust(PADDING * (number % 2)).encode()
        ledger.accepted += 1
        try:
            answer = await client.request("POST", f"/predictions/{MODEL}", body, timeout_s=ANSWER_S)
        except (Broken, TimeoutError) as error:
            ledger.lose(f"prediction {number}: {error!r}")
        else:
            _judge(answer, number, ledger)
        await asyncio.sleep(PAUSE_S)


def _judge(answer: Response, number: int, ledger: Ledger) -> None:
    if answer.status == 200 and answer.body == str(number**2).encode():
        ledger.right += 1
    elif answer.status in GONE:
        ledger.designed += 1
    else:
        ledger.lose(f"request {number}: {answer.told}")


async def _submit_until(ended: asyncio.Event, stage: Stage, client: Client, ledger: Ledger) -> None:
    jobs: dict[int, str] = {}
    while not ended.is_set():
        number = next(stage.numbers)
        answer = await client.request("POST", f"/jobs/{MODEL}", str(number).encode(), TEXT, ANSWER_S)
        ledger.accepted += 1
        if answer.status == 202:
            jobs[number] = json.loads(answer.body)["job_id"]
        elif answer.status in GONE:
            ledger.designed += 1
        else:
            ledger.lose(f"job {number}: {answer.told}")
        await asyncio.sleep(PAUSE_S)
    for number, job in jobs.items():
        _judge(await client.request("GET", f"/jobs/{job}/result?wait=20"), number, ledger)


@contextlib.asynccontextmanager
async def _producer(stage: Stage) -> AsyncIterator["_Producer"]:
    client: Any = redis.asyncio.Redis.from_url(stage.redis_url)
    async with client:
        try:
            yield _Producer(stage, client)
        finally:
            await client.delete(REPLIES, *keys.lanes(MODEL, "1.0"))


@dataclass
class _Producer:
    """Writes to the lanes itself, and reads its replies from a stream."""

    stage: Stage
    client: Any
    added: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # request id -> its lane and entry

    async def add_until(self, ended: asyncio.Event) -> None:
        while not ended.is_set():
            for lane in keys.LANES:
                number, stream = next(self.stage.numbers), keys.lane(MODEL, "1.0", lane)
                fields = {"id": f"n{number}", "type": "text/plain", "reply": REPLIES, "body": str(number)}
                entry = await self.client.xadd(stream, fields)
                self.added[f"n{number}"] = stream, entry
            await asyncio.sleep(PAUSE_S)

    async def judge(self, ledger: Ledger) -> None:
        """Each entry is answered, or is where `marq status` shows it: in a lane that was made by it."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while missing := await self._missing():
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(TRY_AGAIN_S)
        ledger.accepted += len(self.added)
        ledger.designed += len(self.added) - len(missing)
        for request in missing:
            ledger.lose(f"an entry is neither answered nor queued: {request} {self.added[request]}")

    async def _missing(self) -> list[str]:
        replies = await self.client.xrange(REPLIES)
        answered = {fields[b"id"].decode() for _, fields in replies}
        return [
            request
            for request, (lane, entry) in self.added.items()
            if request not in answered and not await self.client.xrange(lane, entry, entry)
        ]
