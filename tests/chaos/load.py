"""Predictions and jobs with unique payloads at a steady rate, each followed to its end."""

import asyncio
import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Self

import redis.asyncio
from http_client import TEXT, Broken, Client, Response, many_open_files
from ledger import Ledger
from stage import Stage

from marq import keys

MOST_IN_FLIGHT = 5000  # far above what any case needs: fewer would stop an open loop
LEAST_SENT = 0.95  # of what the rate asks for
CATCH_UP_S = 1.0  # who is further behind than that does not catch up
ANSWER_S = 60.0  # whoever has no answer after so long has lost its request
TRY_AGAIN_S = 0.5
WAIT_S = 20.0  # for which one request waits for the result of a job
RECOVERY_S = 1.0  # within which everything must be accepted again
MOST_RUNS = 3  # of one row: maxAttempts counts those that a replica did not survive
SIZES = (100_000, 0, 0)  # of the bodies of predictions, in turn, at least; their answers are as large
BROKEN = "connection"  # the outcome of a request whose connection ended
JOB = "job"  # begins the outcome of a job whose result has another status


class Load:
    """`async with Load(...) as load:` sends until the block ends, then waits for all answers.

    `designed`: outcomes that the case allows: a status, BROKEN, or JOB and the status of its result. A job is
    submitted again, with its idempotency key, until it is accepted. Every `poison_every`-th prediction must
    fail with `Worker died.`

    Nothing may be refused, or fail as designed, but as many requests as are sent in `excused_s`. Bodies are
    filled up to `sizes`, in turn, those of jobs to `job_sizes`. `timeout_s`: how long a client waits for a
    prediction, if it says so. `others`: servers with the same Redis that get their share of the requests.
    """

    def __init__(
        self,
        stage: Stage,
        rate: float,
        model: str = "square",
        designed: frozenset[str] = frozenset(),
        poison_every: int = 0,
        jobs: bool = True,
        most: int | None = None,
        letters: bool = False,
        most_runs: int = MOST_RUNS,
        answer_s: float = ANSWER_S,
        timeout_s: float = 0.0,
        sizes: Sequence[int] = SIZES,
        job_sizes: Sequence[int] = (0,),
        others: Sequence[Stage] = (),
    ) -> None:
        self.stage, self.model, self.ledger = stage, model, Ledger()
        self._rate, self._designed, self._poison_every, self._jobs = rate, designed, poison_every, jobs
        self._most = most  # requests; None: until the block ends
        self._most_runs, self._answer_s = most_runs, answer_s
        self.excused_s = 0.0  # to be added to by the case
        self._excused = 0  # requests besides those of that time
        self._letters_allowed = letters  # whether others may fill the dead letters meanwhile
        self._wait_s = timeout_s or WAIT_S
        self._timeout = {"X-Request-Timeout": f"{timeout_s:g}"} if timeout_s else {}
        self._sizes, self._job_sizes = sizes, job_sizes
        self._clients = [each.client() for each in (stage, *others)]
        self._tasks: set[asyncio.Task[None]] = set()
        self._submitting = True
        self._sent = self._held_back = 0
        self._told: Counter[str] = Counter()  # how often each job was told to have finished
        self._accepted: list[str] = []  # ids of jobs, as they are told

    async def __aenter__(self) -> Self:
        self._files = contextlib.ExitStack()
        self._room = self._files.enter_context(many_open_files())
        self._letters_before = self.stage.dead_letters(self.model)
        self._runs = len(self.stage.runs())
        self._listener = asyncio.create_task(self._listen())
        self._sender = asyncio.create_task(self._send())
        self._began = time.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._most is not None and kind is None:
            await self._sender
        self._submitting = False
        self._sender.cancel()
        self._check_rate(time.monotonic() - self._began)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._check_what_is_left()
        self._check_refusals()
        self._listener.cancel()
        for client in self._clients:
            client.close()
        self._files.close()

    @contextlib.contextmanager
    def excused(self) -> Iterator[None]:
        """What is sent meanwhile, and until marq has recovered, may be refused."""
        began = time.monotonic()
        yield
        self.excused_s += time.monotonic() - began + RECOVERY_S

    def excuse_all_in_flight(self) -> None:
        """The requests that have no answer now may be refused, too."""
        self._excused += len(self._tasks)

    async def _send(self) -> None:
        """Open loop: who is slow does not slow the others down."""
        due = time.monotonic()
        while self._sent != self._most:
            if len(self._tasks) < min(MOST_IN_FLIGHT, self._room):
                number = next(self.stage.numbers)
                follow = self._job if self._jobs and self._sent % 2 else self._prediction
                task = asyncio.create_task(follow(number, self._sent))
                self._tasks.add(task)
                task.add_done_callback(self._on_followed)
                self._sent += 1
            else:
                self._held_back += 1
            due = max(due + 1 / self._rate, time.monotonic() - CATCH_UP_S)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _on_followed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if error := task.exception():
            self.ledger.lose(repr(error))

    # one request

    def _client(self, number: int) -> Client:
        return self._clients[number // 2 % len(self._clients)]  # each sends predictions and jobs

    async def _prediction(self, number: int, sent: int) -> None:
        poison = bool(self._poison_every) and sent % self._poison_every == self._poison_every // 2
        turn = sent // 2 if self._jobs else sent
        body = _body(number, self._sizes, turn) + (" poison" if poison else "")
        path, headers = f"/predictions/{self.model}", {**TEXT, **self._timeout}
        try:
            response = await self._client(number).request(
                "POST", path, body.encode(), headers, self._answer_s
            )
        except Broken as error:
            self._judge(number, BROKEN, str(error))
        except TimeoutError:
            self.ledger.accepted += 1
            self.ledger.lose(f"prediction {number} has no answer after {self._answer_s:g} s")
        else:
            self._judge_response(number, response, poison)

    def _judge_response(self, number: int, response: Response, poison: bool = False) -> None:
        if response.is_refusal:
            self.ledger.refuse(response.told)
        elif poison:
            died = response.status == 500 and b"Worker died." in response.body
            self._judge(number, "poison", response.body.decode(), allowed=died)
        elif response.status == 200 and response.body.rstrip() == str(number**2).encode():
            self.ledger.accepted += 1
            self.ledger.right += 1
        else:
            self._judge(number, str(response.status), response.told)

    def _judge(self, number: int, outcome: str, what: str, allowed: bool = False) -> None:
        self.ledger.accepted += 1
        if allowed or outcome in self._designed:
            self.ledger.designed += 1
        else:
            self.ledger.lose(f"request {number}: {outcome}: {what}")

    async def _job(self, number: int, sent: int) -> None:
        if job := await self._submit(number, sent):
            self.ledger.accepted += 1
            self._accepted.append(job.removeprefix(f"{self.model}:"))
            await self._fetch(number, job)

    async def _submit(self, number: int, sent: int) -> str | None:
        """Its id; None if it was refused to the end, or is lost."""
        headers = {**TEXT, "Idempotency-Key": f"{self.stage.directory}/{number}"}
        body = _body(number, self._job_sizes, sent // 2).encode()
        path, deadline = f"/jobs/{self.model}", time.monotonic() + self._answer_s
        heard, is_refusal, refusals, is_unsure = "nothing", False, 0, False
        while (left := deadline - time.monotonic()) > 0:
            try:
                response = await self._client(number).request(
                    "POST", path, body, headers, min(left, self._answer_s / 2)
                )
            except (Broken, TimeoutError) as error:
                heard, is_refusal, is_unsure = repr(error), False, True
            else:
                if response.status == 202:
                    return str(json.loads(response.body)["job_id"])
                heard, is_refusal, refusals = response.told, response.is_refusal, refusals + 1
                if not is_refusal:
                    break
                if refusals == 1:
                    self.ledger.refuse(heard)
                if not (self._submitting or is_unsure):
                    break
            await asyncio.sleep(TRY_AGAIN_S)
        if not is_refusal:  # it may have been accepted
            self.ledger.accepted += 1
            self.ledger.lose(f"job {number} was not taken: {heard}")
        return None

    async def _fetch(self, number: int, job: str) -> None:
        """The result, however often the way to it breaks."""
        deadline, seen = time.monotonic() + self._answer_s, "nothing"
        while time.monotonic() < deadline:
            try:
                response = await self._client(number).request(
                    "GET", f"/jobs/{job}/result?wait={self._wait_s:g}", timeout_s=30
                )
            except (Broken, TimeoutError) as error:
                seen = repr(error)
            else:
                seen = response.told
                if response.status == 200 and response.body.rstrip() == str(number**2).encode():
                    self.ledger.right += 1
                    return
                if f"{JOB} {response.status}" in self._designed:
                    self.ledger.designed += 1
                    return
                if response.status not in (409, 503):  # not finished; Redis is away
                    break
            await asyncio.sleep(TRY_AGAIN_S)
        self.ledger.lose(f"job {job} of {number}: {seen}")

    # afterwards

    def _check_rate(self, seconds: float) -> None:
        wanted = LEAST_SENT * self._rate * (seconds - CATCH_UP_S)
        if self._most is None and self._sent < wanted:
            told = f"{self._sent:,} requests were sent in {seconds:.1f} s instead of {wanted:,.0f} at least"
            if self._held_back:
                self.ledger.complain(f"{told}: too many were in flight")
            else:
                self.ledger.notes.append(f"{told}: the machine is too slow")

    def _check_refusals(self) -> None:
        most = math.ceil(self._rate * self.excused_s) + self._excused
        self.ledger.check_refusals(most, 0 if self._poison_every else self.ledger.designed)
        if most:
            self.ledger.notes.append(f"{most:,} may be refused or broken")

    async def _check_what_is_left(self) -> None:
        ledger, model = self.ledger, self.model
        if left := await self.stage.until_empty(model):
            ledger.complain(f"left in the lanes (entries, pending): {left}")
        if files := await self.stage.until_no_files():
            ledger.complain(f"{len(files)} files of bodies and answers are left, {files[0]} among them")
        ledger.duplicated += sum(client.strays for client in self._clients)
        ledger.duplicated += sum(max(0, self._told[job] - 1) for job in self._accepted)
        letters = self.stage.dead_letters(model) - self._letters_before
        poison = ledger.designed if self._poison_every else 0
        if letters != poison and not self._letters_allowed:
            ledger.complain(f"{letters} dead letters instead of {poison}")
        runs = list(self.stage.runs().values())[self._runs :]
        if again := sum(times > 1 for times in runs):
            ledger.notes.append(f"{again} rows run again, one {max(runs)} times")
        if max(runs, default=0) > self._most_runs:
            ledger.complain(f"a row was run {max(runs)} times")

    async def _listen(self) -> None:
        """Counts the notifications of finished jobs; what is told while Redis is away is missed."""
        channel = keys.finished(self.model)
        while True:
            client: Any = redis.asyncio.Redis.from_url(self.stage.redis_url, protocol=2)
            with contextlib.suppress(redis.RedisError, OSError):
                async with client, client.pubsub() as subscription:
                    await subscription.subscribe(channel)
                    async for message in subscription.listen():
                        if message["type"] == "message":
                            self._told.update(message["data"].decode().split(" "))
            await asyncio.sleep(0.1)


def _body(number: int, sizes: Sequence[int], turn: int) -> str:
    return str(number).ljust(sizes[turn % len(sizes)])
