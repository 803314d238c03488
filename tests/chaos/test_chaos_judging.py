"""What the load of the chaos suite makes of servers that refuse, break or forget: it must tell."""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

sys.path.append(str(Path(__file__).parent))  # not a package: it has a runner of its own

import load as load_module
from ledger import Ledger
from load import BROKEN, Load
from stage import PAYLOADS, Stage

from marq import keys

RATE = 200
REQUESTS = 40
UNANSWERED_S = 0.5  # for which a client waits where the server never answers
REFUSED = (503, "Retry-After: 1\r\n", "no")
TOO_MANY = (429, "Retry-After: 1\r\n", "no")


def right(number):
    return 200, "", str(number**2)


def taken(number):
    return 202, "", json.dumps({"job_id": f"square:{number}"})


class Server:
    """Answers with squares, or with what `predict` and `submit` make of a number; None: never."""

    def __init__(self, predict=right, submit=taken) -> None:
        self._predict, self._submit = predict, submit

    @contextlib.asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def _serve(self, reader, writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.split("Content-Length: ")[1].split("\r\n")[0])
                body = await reader.readexactly(length)
                if (answer := await self._answer(head.split()[1], body)) == BROKEN:
                    break
                if answer is None:
                    continue
                status, headers, text = answer
                writer.write(
                    f"HTTP/1.1 {status} x\r\n{headers}Content-Length: {len(text)}\r\n\r\n{text}".encode()
                )
        writer.close()

    async def _answer(self, path, body):
        if path.endswith("/result?wait=20"):
            return right(int(path.split(":")[1].split("/")[0]))
        answer = (self._submit if path.startswith("/jobs") else self._predict)(int(body))
        return await answer if asyncio.iscoroutine(answer) else answer


@pytest.fixture
def stage(redis_url, tmp_path):
    with redis.Redis.from_url(redis_url) as client:
        for lane in keys.lanes("square", "1.0"):
            client.xgroup_create(lane, keys.GROUP, mkstream=True)
    return Stage(SimpleNamespace(log=tmp_path / "server.log"), tmp_path, redis_url, tmp_path / PAYLOADS)


async def judged(stage, server: Server, excused_s: float = 0.0, **options) -> Ledger:
    """What a short load makes of the server."""
    options = {"most": REQUESTS, **options}
    async with server.listening() as stage.server.inference, Load(stage, RATE, **options) as load:
        load.excused_s = excused_s
        if options["most"] is None:
            await asyncio.sleep(1.5)
    return load.ledger


async def test_a_server_that_answers_all_is_clean(stage):
    ledger = await judged(stage, Server())
    assert ledger.is_clean, ledger
    assert ledger.accepted == ledger.right == REQUESTS


async def test_refused_predictions_are_complained_of(stage):
    ledger = await judged(stage, Server(predict=lambda number: REFUSED if number % 20 else right(number)))
    assert (ledger.lost, ledger.duplicated) == (0, 0)
    assert not ledger.is_clean
    assert f"{ledger.refused} were refused or broken, 0 may be; the first one: 503 no" in ledger.problems


async def test_jobs_that_are_refused_at_first_count_as_refused_once(stage, monkeypatch):
    monkeypatch.setattr(load_module, "TRY_AGAIN_S", 0.01)
    seen = Counter()

    def submit(number):
        seen[number] += 1
        return TOO_MANY if seen[number] < 3 else taken(number)

    ledger = await judged(stage, Server(submit=submit))
    assert not ledger.is_clean
    assert 0 < ledger.refused <= len(seen)


@pytest.mark.parametrize(("excused_s", "is_clean"), [(1.0, True), (0.02, False)])
async def test_no_more_may_be_refused_than_is_sent_while_redis_is_away(stage, excused_s, is_clean):
    server = Server(predict=lambda number: right(number) if number % 4 else REFUSED)
    ledger = await judged(stage, server, excused_s=excused_s)
    assert ledger.is_clean == is_clean, ledger


async def test_failures_that_a_case_allows_are_bounded_as_well(stage):
    server = Server(predict=lambda number: BROKEN)
    assert (await judged(stage, server, excused_s=1.0, designed=frozenset({BROKEN}))).is_clean
    assert not (await judged(stage, server, excused_s=0.0, designed=frozenset({BROKEN}))).is_clean


async def test_a_job_whose_submission_is_never_answered_is_lost(stage):
    ledger = await judged(stage, Server(submit=lambda number: None), answer_s=UNANSWERED_S)
    assert ledger.lost == ledger.accepted - ledger.right > 5
    assert "was not taken: TimeoutError()" in ledger.problems[0]


async def test_a_job_whose_submission_breaks_each_time_is_lost(stage):
    ledger = await judged(stage, Server(submit=lambda number: BROKEN), answer_s=UNANSWERED_S)
    assert ledger.lost == ledger.accepted - ledger.right > 5


async def test_a_job_that_is_refused_to_the_end_is_not_lost(stage):
    ledger = await judged(stage, Server(submit=lambda number: TOO_MANY), excused_s=1.0)
    assert ledger.is_clean, ledger
    assert ledger.refused > 5


async def test_a_refusal_of_a_job_without_a_hint_when_to_come_again_is_a_loss(stage):
    ledger = await judged(stage, Server(submit=lambda number: (503, "", "no")))
    assert ledger.lost > 5


async def test_a_prediction_without_an_answer_is_lost(stage):
    ledger = await judged(stage, Server(predict=lambda number: None), jobs=False, answer_s=UNANSWERED_S)
    assert ledger.lost == ledger.accepted == REQUESTS


async def test_a_load_that_was_held_back_complains(stage, monkeypatch):
    async def late(number):
        await asyncio.sleep(0.1)
        return right(number)

    monkeypatch.setattr(load_module, "MOST_IN_FLIGHT", 2)
    ledger = await judged(stage, Server(predict=late), most=None, jobs=False)
    assert "too many were in flight" in ledger.problems[0]
    assert ledger.lost == 0
