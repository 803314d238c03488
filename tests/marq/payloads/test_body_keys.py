"""Large bodies are keys beside the lane where no files are shared: lanes stay small, no key stays behind."""

import asyncio
import time
from collections.abc import Callable

import pytest
import redis
from thread_replica import make_spec

from marq import keys
from marq.admission.seats import Seat
from marq.admission.tickets import TicketAdmission
from marq.connections.blocking import Connection
from marq.errors import QueueFull
from marq.jobs.jobs import Jobs
from marq.payloads import body_keys
from marq.payloads.body_keys import MOST_INLINE, TTL_S
from marq.queue import broker as broker_module
from marq.queue.broker import Broker
from marq.queue.dead_letters import DeadLetters
from marq.queue.entries import EntryFields
from marq.queue.giving_up import Death, bury
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import WholeReply
from workers.replica.lane_reader import LaneReader

LANE = keys.lane("echo", "1.0")
BODY = b"\x80" * 1_000_000
KEY = "marq:{echo}:body:7"
TOTAL = "marq:{echo}:body-bytes:1.0"


@pytest.fixture
async def broker(redis_url, spec):
    broker = Broker(redis_url, "test")
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
async def jobs(broker):
    jobs = Jobs(broker)
    yield jobs
    jobs.stop()


@pytest.fixture
def reader(redis_url, spec):
    connection = Connection(redis_url)
    yield LaneReader(connection, spec, "consumer", time, lambda _: None)
    connection.close()


async def soon(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


def predict(broker: Broker, body: bytes = BODY, request_id: bytes = b"7") -> asyncio.Future[Reply]:
    return broker.predict(LANE.encode(), request_id, EntryFields(body))


async def submit(jobs: Jobs, body: bytes = BODY) -> str:
    return await jobs.submit("echo", "1.0", b"7", EntryFields(body))


def bodies(client) -> list[bytes]:
    return list(client.scan_iter(match="marq:{*}:body*"))


def failure(request) -> Reply:
    return Reply(request.id, 500, b"failed")


async def test_the_lane_stays_small_and_the_key_ends_with_the_answer(broker, client, start_replica):
    answer = predict(broker)
    await soon(lambda: client.xlen(LANE))
    [(_, fields)] = client.xrange(LANE)
    assert fields == {b"id": b"7", b"replies": broker.stream.encode(), b"body_ref": b"body:7"}
    assert client.memory_usage(LANE) < 10_000
    assert client.strlen(KEY) == broker.body_keys.held == len(BODY)
    assert 0 < client.ttl(KEY) <= TTL_S
    start_replica()
    assert (await asyncio.wait_for(answer, 60)).body == BODY
    await soon(lambda: not bodies(client))
    assert broker.body_keys.held == 0


async def test_a_request_that_is_admitted_or_refused_by_a_script_leaves_no_key(broker, client):
    spec = make_spec(use_job_ticket=True)

    def ask() -> WholeReply:
        answer = WholeReply(loop=asyncio.get_running_loop())
        admission = TicketAdmission(spec)
        broker.queue_if_admitted(admission, LANE.encode(), b"7", EntryFields(BODY), answer, lambda: None)
        return answer

    with pytest.raises(QueueFull):  # no replica is idle
        await asyncio.wait_for(ask(), 60)
    await soon(lambda: not bodies(client))
    connection = Connection(broker.url)
    Seat(connection, spec, "p/0/1").open()
    connection.close()
    ask()
    await soon(lambda: client.xlen(LANE))
    assert client.xrange(LANE)[0][1][b"body_ref"] == b"body:7"
    assert client.strlen(KEY) == len(BODY)
    broker.withdraw(b"7")
    await soon(lambda: not client.xlen(LANE) and not bodies(client))


@pytest.mark.parametrize("size", [MOST_INLINE, MOST_INLINE + 1])
async def test_a_body_becomes_a_key_above_the_threshold(broker, client, size):
    predict(broker, b"x" * size)
    await soon(lambda: client.xlen(LANE))
    assert client.exists(KEY) == (size > MOST_INLINE)


async def test_an_id_that_cannot_be_part_of_a_reference_leaves_the_body_in_its_entry(broker, client):
    predict(broker, request_id=b"a/b")
    await soon(lambda: client.xlen(LANE))
    assert client.xrange(LANE)[0][1][b"body"] == BODY


async def test_a_request_that_is_withdrawn_leaves_no_key(broker, client):
    predict(broker)
    await soon(lambda: client.xlen(LANE))
    broker.withdraw(b"7")
    await soon(lambda: not client.xlen(LANE) and not bodies(client))


async def test_the_key_lasts_while_the_request_waits(broker, client, monkeypatch):
    predict(broker)
    await soon(lambda: client.xlen(LANE))
    client.expire(KEY, 1000)
    commands = broker._commands
    commands.close()  # a lost connection is opened again, and nothing waits for an answer to the XADD
    await soon(lambda: broker._commands not in (None, commands))
    await soon(lambda: client.ttl(KEY) <= TTL_S)


async def test_the_time_to_live_is_renewed(redis_url, spec, client, monkeypatch):
    monkeypatch.setattr(broker_module, "KEEP_EVERY_S", 0.02)
    broker = Broker(redis_url, "another")
    await broker.start()
    predict(broker)
    await soon(lambda: client.exists(KEY))
    client.expire(KEY, 1000)
    await soon(lambda: client.ttl(KEY) <= TTL_S)
    await broker.stop()
    assert bodies(client) == []


@pytest.mark.parametrize("other_key", [False, True])
async def test_a_row_whose_key_is_gone_or_no_string_has_no_body(broker, client, reader, other_key):
    predict(broker)
    await soon(lambda: client.xlen(LANE))
    client.delete(KEY)
    if other_key:
        client.rpush(KEY, "x")
    reader.read(8)
    [row] = reader.take(8, 1)
    assert (row.body, row.body_ref) == (b"", b"body:7")


async def test_rows_whose_bodies_could_not_be_read_are_taken_up_again(broker, client, reader, monkeypatch):
    def end(*_):
        raise redis.ConnectionError("Redis was stopped")

    predict(broker)
    await soon(lambda: client.xlen(LANE))
    with monkeypatch.context() as patched, pytest.raises(redis.ConnectionError):
        patched.setattr(body_keys, "load", end)
        reader.read(8)
    assert not reader.held
    reader.adopt(())
    assert [row.body for row in reader.take(8, 1)] == [BODY]


async def test_a_job_keeps_its_key_until_it_has_succeeded(jobs, client, start_replica):
    job_id = await submit(jobs)
    [(_, fields)] = client.xrange(LANE)
    assert (fields[b"body_ref"], fields[b"size"]) == (b"body:7", b"1000000")
    assert client.ttl(KEY) == -1
    assert client.get(TOTAL) == b"1000000"
    start_replica()
    assert (await jobs.wait(job_id, 60)).body == BODY
    assert bodies(client) == []


async def test_a_cancelled_job_leaves_no_key(jobs, client):
    await jobs.cancel(await submit(jobs))
    assert bodies(client) == []


async def test_a_failed_job_can_be_retried_while_its_record_lasts(jobs, client, start_replica):
    job_id = await submit(jobs)
    failing = start_replica(failure)
    assert (await jobs.wait(job_id, 60)).state == "failed"
    failing.stop()
    assert bodies(client) == [KEY.encode()]
    assert client.pttl(KEY) == pytest.approx(client.pttl(keys.job("echo", "7")), abs=1000)
    await jobs.retry(job_id)
    assert (client.ttl(KEY), client.get(TOTAL)) == (-1, b"1000000")
    start_replica()
    assert (await jobs.wait(job_id, 60)).body == BODY
    assert bodies(client) == []


async def test_jobs_with_and_without_a_key_can_be_queued_together(jobs, client, start_replica):
    rows = [(b"%d" % number, EntryFields(body)) for number, body in enumerate([BODY, b"x", BODY, b"y"])]
    ids = await jobs.submit_many("echo", "1.0", rows)
    assert client.get(TOTAL) == b"2000000"
    assert [set(fields) for _, fields in client.xrange(LANE)][1] == {b"id", b"job", b"body"}
    start_replica()
    answers = [(await jobs.wait(job_id, 60)).body for job_id in ids]
    assert answers == [BODY, b"x", BODY, b"y"]
    assert bodies(client) == []


async def test_a_job_that_exists_is_not_given_another_body(jobs, client):
    await submit(jobs)
    await submit(jobs, BODY + b"more")
    assert client.strlen(KEY) == len(BODY)
    assert client.get(TOTAL) == b"1000000"


@pytest.mark.parametrize("ask", [predict, submit], ids=["prediction", "job"])
async def test_a_dead_letter_has_the_body_itself(broker, jobs, client, spec, redis_url, start_replica, ask):
    asked = ask(broker if ask is predict else jobs)
    if ask is submit:
        await asked
    await soon(lambda: client.xlen(LANE))
    [[_, [(entry, _)]]] = client.xreadgroup(keys.GROUP, "replica", {LANE: ">"})
    connection = Connection(redis_url)
    connection.transaction(bury(spec, LANE, entry, Death("it was given up")))
    connection.close()
    broker.withdraw(b"7")
    letters = DeadLetters(client)
    [letter] = letters.page("echo", 10)
    assert (letter.size, letter.obstacle) == (len(BODY), "")
    assert letters.body("echo", letter.id) == BODY
    assert b"body_ref" not in letter.request
    # Its replay has a key of its own
    await soon(lambda: bodies(client) == ([KEY.encode()] if ask is submit else []))
    [job_id] = letters.replay("echo", [letter.id]).jobs.values()
    key = f"marq:{{echo}}:body:{job_id.partition(':')[2]}"
    assert (client.ttl(key), client.strlen(key)) == (-1, len(BODY))
    assert client.memory_usage(LANE) < 10_000
    start_replica()
    assert (await jobs.wait(job_id, 60)).body == BODY
    assert not client.exists(key, TOTAL)
