import asyncio
import logging

import pytest

from marq.background_tasks import MOST_ENDS, WITHIN_S, TaskKeepsEnding, supervise


async def test_a_task_that_fails_is_logged_with_its_reason_and_started_again(caplog):
    # Given a task that fails at first
    runs, works = [], asyncio.Event()

    async def run():
        runs.append(len(runs))
        if len(runs) < 3:
            raise OSError("the disk is full")
        works.set()
        await asyncio.Event().wait()

    # When it is supervised
    task = asyncio.create_task(supervise("registry", run, restart_delay_s=0))
    await asyncio.wait_for(works.wait(), 60)
    # Then it runs in the end, and each failure is in the log
    task.cancel()
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage().partition(";")[0] for record in failures] == ["the task registry failed"] * 2
    assert all("the disk is full" in str(record.exc_info[1]) for record in failures)


async def test_a_task_that_returns_is_started_again():
    runs = []

    async def run():
        runs.append(None)
        if len(runs) == 3:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await supervise("registry", run, restart_delay_s=0)
    assert len(runs) == 3


async def test_a_task_that_keeps_ending_ends_its_process():
    async def run():
        raise OSError

    with pytest.raises(TaskKeepsEnding, match=f"The task registry ended {MOST_ENDS} times"):
        await asyncio.wait_for(supervise("registry", run, restart_delay_s=0), 60)


async def test_a_task_that_ends_now_and_then_goes_on():
    now, runs = iter(range(0, 10**6, int(WITHIN_S))), []

    async def run():
        runs.append(None)
        if len(runs) == 3 * MOST_ENDS:
            raise asyncio.CancelledError
        raise OSError

    with pytest.raises(asyncio.CancelledError):
        await supervise("registry", run, restart_delay_s=0, clock=lambda: next(now))
