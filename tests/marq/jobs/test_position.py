from marq import keys
from marq.jobs.position import position


async def place(jobs, job):
    return await position(jobs.broker, await jobs.get(job))


async def test_jobs_stand_in_line_by_priority_then_age(jobs, client, submit, finish):
    first, second = await submit(), await submit()
    low = await submit(priority=keys.LOW)
    high = await submit(priority=keys.HIGH)
    assert [await place(jobs, job) for job in (high, first, second, low)] == [1, 2, 3, 4]
    # Those that a replica has taken do not count
    client.xreadgroup(keys.GROUP, "replica", {keys.lane("echo", "1.0"): ">"}, count=1)
    assert [await place(jobs, job) for job in (first, second, low)] == [None, 2, 3]
    finish(lane=keys.HIGH)
    assert await place(jobs, high) is None
    assert [await place(jobs, job) for job in (second, low)] == [1, 2]
