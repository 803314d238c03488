"""Ways to get digits read: HTTP predictions, HTTP jobs, and a producer that writes to the queue itself."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import httpx

import marq
from marq.errors import MarqError

CLIENTS = 32  # at the same time
TIMEOUT_S = 60.0
WAIT_S = 20  # of one poll
PNG = {"Content-Type": "image/png"}

Ask = Callable[[httpx.AsyncClient, bytes], Awaitable[int]]
OnAnswer = Callable[[], None]


@dataclass(frozen=True)
class Answer:
    """What came back for one image; `digit` is None where it was an error."""

    image: int  # its number
    digit: int | None
    seconds: float  # from sending until the answer was read
    problem: str = ""


@dataclass(frozen=True)
class Sender:
    """Sends images to one model of one server; `on_answer` is called for every answer."""

    inference: str
    redis_url: str
    model: str
    images: list[bytes]

    async def predictions(self, order: Iterable[int], on_answer: OnAnswer) -> list[Answer]:
        """`POST /predictions`: each client waits for its answer."""

        async def ask(http: httpx.AsyncClient, image: bytes) -> int:
            answer = await http.post(f"/predictions/{self.model}", content=image, headers=PNG)
            return answer.raise_for_status().json()["digit"]

        return await self._ask_all(ask, order, on_answer)

    async def jobs(self, order: Iterable[int], on_answer: OnAnswer) -> list[Answer]:
        """`POST /jobs` is answered at once; the result is fetched later, waiting for it where needed."""

        async def ask(http: httpx.AsyncClient, image: bytes) -> int:
            queued = await http.post(f"/jobs/{self.model}", content=image, headers=PNG)
            result = f"{queued.raise_for_status().headers['location']}/result?wait={WAIT_S}"
            answer = await http.get(result)
            while answer.status_code == httpx.codes.CONFLICT:  # not finished yet
                answer = await http.get(result)
            return answer.raise_for_status().json()["digit"]

        return await self._ask_all(ask, order, on_answer)

    def produce(self, order: Iterable[int], on_answer: OnAnswer) -> list[Answer]:
        """`marq.Client`: all jobs are queued in one go, without HTTP, and then collected."""
        numbers = list(order)
        with marq.Client(self.redis_url) as client:
            began = time.perf_counter()
            jobs = client.submit_many(self.model, (self.images[number] for number in numbers))
            answers = []
            for number, job in zip(numbers, jobs, strict=True):
                digit, problem = _collect(job)
                answers.append(Answer(number, digit, time.perf_counter() - began, problem))
                on_answer()
        return answers

    async def _ask_all(self, ask: Ask, order: Iterable[int], on_answer: OnAnswer) -> list[Answer]:
        """Asks for all images in this order: each client, on a connection of its own, for one at a time."""
        waiting, answers = iter(order), []

        async def client() -> None:
            async with httpx.AsyncClient(base_url=self.inference, timeout=TIMEOUT_S) as http:
                for number in waiting:
                    answers.append(await self._answer(ask, http, number))
                    on_answer()

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        return answers

    async def _answer(self, ask: Ask, http: httpx.AsyncClient, number: int) -> Answer:
        began, digit, problem = time.perf_counter(), None, ""
        try:
            digit = await asyncio.wait_for(ask(http, self.images[number]), TIMEOUT_S)
        except (httpx.HTTPError, TimeoutError, KeyError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Answer(number, digit, time.perf_counter() - began, problem)


def _collect(job: "marq.client.Job") -> tuple[int | None, str]:
    """(digit, problem) of a job."""
    try:
        return job.result(TIMEOUT_S).json()["digit"], ""
    except (MarqError, TimeoutError, KeyError, ValueError) as error:
        return None, f"{type(error).__name__}: {error}"
