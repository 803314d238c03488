"""A server whose processes are killed in turn, while requests are repeated until they are accepted."""

import asyncio
import contextlib
import itertools
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import psutil
from crashes import GATEWAY_LIFE_S
from ledger import Ledger
from redis_cases import kill, until_back
from stage import Stage, command

MODEL = "kept"
GATEWAY, REPLICA, REDIS, BRIDGE = "gateway", "replica", "Redis", "bridge"
ACCEPTED_S = 60.0  # within which a request that is repeated is accepted
ENDED_S = 200.0  # within which all has ended: the message of a killed sender is sent again after a minute
AGAIN_S = 0.2


class UnderFire:
    """The server, and what became of the requests. `is_on`: processes are being killed."""

    def __init__(self, stage: Stage, client: httpx.AsyncClient) -> None:
        self.stage, self.client, self.ledger = stage, client, Ledger()
        self.kills = Counter[str]()
        self.is_on = False

    @contextlib.asynccontextmanager
    async def fire(self, seconds: float, *victims: str) -> AsyncIterator[None]:
        """Kills the victims, one after the other, and each of them at least once."""
        killing = asyncio.create_task(self._kill_in_turn(seconds, victims))
        self.is_on = True
        try:
            yield
            await killing
        finally:
            killing.cancel()
        self.ledger.notes.append(", ".join(f"{name} killed {n} times" for name, n in self.kills.items()))

    async def _kill_in_turn(self, seconds: float, victims: tuple[str, ...]) -> None:
        try:
            end = time.monotonic() + seconds
            for victim in itertools.cycle(victims):
                if time.monotonic() > end and len(self.kills) == len(victims):
                    return
                await asyncio.sleep(GATEWAY_LIFE_S)
                await self._kill(victim)
        finally:
            self.is_on = False

    async def _kill(self, victim: str) -> None:
        if victim == REDIS:
            await kill(self.stage.redis_process)
            self.kills[victim] += 1
            await until_back(self.stage)
        elif found := await self._processes(victim):
            with contextlib.suppress(psutil.NoSuchProcess):
                random.choice(found).kill()
                self.kills[victim] += 1

    async def _processes(self, victim: str) -> list[psutil.Process]:
        if victim == REPLICA:
            return [psutil.Process(pid) for pid in await self.stage.ready_replicas(MODEL)]
        children = psutil.Process(self.stage.server.process.pid).children()
        return [process for process in children if victim in command(process)]

    async def accepted(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The first answer of success to a request, which is repeated until then. Raises TimeoutError."""
        heard: object = "nothing"
        deadline = time.monotonic() + ACCEPTED_S
        while time.monotonic() < deadline:
            try:
                answer = await self.client.request(method, path, **options)
                if answer.is_success:
                    return answer
                heard = answer.text
            except httpx.HTTPError as error:
                heard = repr(error)
            await asyncio.sleep(AGAIN_S)
        raise TimeoutError(f"{method} {path} was not accepted; at last: {heard}")

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Returns when all has ended, or complains when it has not for long."""
        deadline = time.monotonic() + ENDED_S
        while not condition():
            if time.monotonic() > deadline:
                self.ledger.complain(f"waited in vain for {what}")
                return
            await asyncio.sleep(AGAIN_S)

    async def judge(self, number: int, job: str) -> None:
        """Fetches the result of a job, which is the square of its number."""
        try:
            answer = await self.accepted("GET", f"/jobs/{job}/result?wait=20")
        except TimeoutError as error:
            self.ledger.lose(str(error))
            return
        if answer.text == str(number**2):
            self.ledger.right += 1
        else:
            self.ledger.lose(f"job {job} of {number}: {answer.text:.200}")


@contextlib.asynccontextmanager
async def under_fire(stage: Stage) -> AsyncIterator[UnderFire]:
    """With the model, and no longer than it."""
    async with (
        stage.registered(MODEL),
        httpx.AsyncClient(base_url=stage.server.inference, timeout=30) as client,
    ):
        yield UnderFire(stage, client)
