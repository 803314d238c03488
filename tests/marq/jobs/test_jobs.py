import asyncio
import time

import pytest
from thread_replica import ThreadReplica, echo, make_spec

from marq import keys
from marq.connections import clients
from marq.connections.pipelined import PipelinedConnection
from marq.errors import JobNotFound, ServiceUnavailable
from marq.host.embedded_redis import EmbeddedServer
from marq.jobs import jobs as jobs_module
from marq.jobs.jobs import Jobs
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies.entries import Reply
from marq.registry.models import Registry

LANE = keys.lane("echo", "1.0")


def submit(jobs, request_id: bytes = b"7", body: bytes = b"x"):
    return jobs.submit("echo", "1.0", request_id, EntryFields(body))


async def subscribed(client):
    """Returns when a wait for a job hears of its end."""
    while not client.pubsub_channels():
        await asyncio.sleep(0.01)


async def test_a_job_goes_from_queued_through_running_to_succeeded(jobs, client, start_replica):
    # Given a job
    job_id = await submit(jobs)
    queued = await jobs.get(job_id)
    assert (queued.state, queued.model, queued.version) == ("queued", "echo", "1.0")
    assert queued.queued == pytest.approx(time.time(), abs=600)
    # When a replica has taken it
    client.xreadgroup(keys.GROUP, "replica", {LANE: ">"})
    running = await jobs.get(job_id)
    assert running.state == "running"
    assert running.started == pytest.approx(time.time(), abs=600)
    # And another one answers it
    client.xgroup_setid(LANE, keys.GROUP, "0")
    start_replica()
    finished = await jobs.wait(job_id, 60)
    # Then the record has its result
    assert (finished.state, finished.status, finished.body) == ("succeeded", 200, b"x")
    assert finished.queued == queued.queued
    assert finished.queued <= finished.started <= finished.finished


async def test_a_failed_job_keeps_its_answer(jobs, start_replica):
    start_replica(lambda request: Reply(request.id, 503, b"no"))
    record = await jobs.wait(await submit(jobs), 60)
    assert (record.state, record.status, record.body) == ("failed", 503, b"no")


async def test_a_job_with_an_id_that_exists_is_the_job_that_exists(jobs, client):
    first, second = await submit(jobs, body=b"first"), await submit(jobs, body=b"second")
    assert first == second == "echo:7"
    assert [fields[b"body"] for _, fields in client.xrange(LANE)] == [b"first"]


async def test_many_jobs_keep_their_order(jobs, client):
    rows = ((b"%d" % number, EntryFields(b"body %d" % number)) for number in range(2500))
    ids = await jobs.submit_many("echo", "1.0", rows)
    assert ids == [f"echo:{number}" for number in range(2500)]
    assert [fields[b"body"] for _, fields in client.xrange(LANE)] == [b"body %d" % n for n in range(2500)]


async def test_many_jobs_keep_their_own_heads(jobs, client):
    text, json = EntryHead(type=b"text/plain"), EntryHead(type=b"application/json")
    rows = [(b"%d" % n, EntryFields(b"b", json if n % 3 else text)) for n in range(300)]
    await jobs.submit_many("echo", "1.0", rows)
    queued = [(fields[b"id"], fields[b"type"]) for _, fields in client.xrange(LANE)]
    assert queued == [(request_id, fields.head.type) for request_id, fields in rows]


async def test_many_jobs_are_queued_where_redis_forgot_its_scripts(jobs, client):
    client.script_flush()
    assert len(await jobs.submit_many("echo", "1.0", [(b"1", EntryFields(b"x"))])) == 1
    assert client.xlen(LANE) == 1


@pytest.mark.parametrize("job_id", ["echo:nope", "nope:7", "nonsense", ""])
async def test_an_unknown_job_is_not_found(jobs, job_id):
    with pytest.raises(JobNotFound, match=f"Job not found: {job_id}"):
        await jobs.get(job_id)
    with pytest.raises(JobNotFound):
        await jobs.wait(job_id, 60)


async def test_a_job_whose_lane_is_gone_can_be_asked_for(jobs, registry, spec):
    job_id = await submit(jobs)
    registry.redis.delete(*keys.lanes(spec.name, spec.version))
    assert (await jobs.get(job_id)).state == "queued"


async def test_waiting_wakes_as_soon_as_the_job_has_finished(jobs, client, start_replica, monkeypatch):
    # Given a wait that has subscribed, and would not look again by itself
    monkeypatch.setattr(jobs_module, "RECHECK_S", 60)
    waiting = asyncio.create_task(jobs.wait(await submit(jobs), 60))
    await subscribed(client)
    assert not waiting.done()
    # When the job finishes
    start_replica()
    record = await waiting
    # Then the wait ends by the notification
    assert record.is_finished
    assert time.time() - record.finished < 50


async def test_a_job_that_finishes_while_the_subscription_is_made_is_not_missed(
    jobs, start_replica, monkeypatch
):
    # Given a connection that is made only when the job has finished
    monkeypatch.setattr(jobs_module, "RECHECK_S", 30)
    job_id = await submit(jobs)
    connect = PipelinedConnection.open

    async def late(url, on_lost):
        start_replica()
        while not (await jobs.get(job_id)).is_finished:
            await asyncio.sleep(0.01)
        return await connect(url, on_lost)

    monkeypatch.setattr(PipelinedConnection, "open", late)
    # Then the wait ends nevertheless
    assert (await jobs.wait(job_id, 25)).state == "succeeded"


async def test_waiting_does_not_spin_while_other_jobs_finish(
    jobs, start_replica, client, redis_url, registry
):
    # Given a job that nobody answers, and other jobs of its model that are answered
    other = make_spec(version="2.0")
    registry.register(other)
    start_replica(spec=other)
    waiting = asyncio.create_task(jobs.wait(await submit(jobs), 0.7))
    for number in range(10):
        await jobs.wait(await jobs.submit("echo", "2.0", b"o%d" % number, EntryFields(b"")), 5)
    # When it is waited for
    before = client.info("commandstats")["cmdstat_hgetall"]["calls"]
    assert not (await waiting).is_finished
    # Then it is looked at a few times, not all the time
    assert client.info("commandstats")["cmdstat_hgetall"]["calls"] - before < 10


async def test_when_the_time_has_passed_the_job_is_returned_as_it_is(jobs):
    job_id = await submit(jobs)
    began = time.monotonic()
    record = await jobs.wait(job_id, 0.2)
    assert record.state == "queued"
    assert 0.2 <= time.monotonic() - began < 20
    assert (await jobs.wait(job_id, 0)).state == "queued"


async def test_many_may_wait_for_one_job(jobs, client, start_replica):
    job_id = await submit(jobs)
    waiting = [asyncio.create_task(jobs.wait(job_id, 60)) for _ in range(20)]
    await subscribed(client)
    start_replica()
    assert {record.state for record in await asyncio.gather(*waiting)} == {"succeeded"}


async def test_waiting_outlives_lost_connections(jobs, client, start_replica):
    # Given somebody who waits
    waiting = asyncio.create_task(jobs.wait(await submit(jobs), 60))
    await subscribed(client)
    # When all connections are cut, and the job finishes
    client.client_kill_filter(_type="normal")
    client.client_kill_filter(_type="pubsub")
    start_replica()
    # Then the wait ends with its result
    assert (await waiting).state == "succeeded"


async def test_waiting_outlives_a_restart_of_redis(tmp_path):
    # Given somebody who waits for a job
    server = EmbeddedServer(tmp_path)
    server.start()
    spec = make_spec()
    with clients.client(server.url) as own:
        Registry(own).register(spec)
    broker = Broker(server.url)
    await broker.start()
    jobs = Jobs(broker)
    job_id = await submit(jobs)
    waiting = asyncio.create_task(jobs.wait(job_id, 60))
    with clients.client(server.url) as own:
        await subscribed(own)
    # When Redis is restarted for longer than it takes to look again
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(1.1)
    await asyncio.to_thread(server.start)
    # Then the wait goes on, and ends with the job
    replica = ThreadReplica(server.url, spec, echo)
    assert (await waiting).state == "succeeded"
    await asyncio.to_thread(replica.stop)
    jobs.stop()
    await broker.stop()
    server.stop()


async def test_while_redis_is_gone_a_submission_is_refused(tmp_path):
    server = EmbeddedServer(tmp_path)
    server.start()
    broker = Broker(server.url)
    await broker.start()
    jobs = Jobs(broker)
    server.stop()
    for _ in range(3):  # also before the loss was noticed
        with pytest.raises(ServiceUnavailable):
            await submit(jobs)
    await broker.stop()


async def test_a_full_redis_refuses_a_submission_and_says_why(tmp_path):
    server = EmbeddedServer(tmp_path)
    server.start()
    broker = Broker(server.url)
    await broker.start()
    jobs = Jobs(broker)
    try:
        with clients.client(server.url) as client:
            client.config_set("maxmemory", 1)
        with pytest.raises(ServiceUnavailable, match="maxmemory"):
            await submit(jobs)
    finally:
        jobs.stop()
        await broker.stop()
        server.stop()
