import json
import signal
import time

import pytest
from support import wait_for

from marq import keys
from marq.connections import clients
from marq.connections.blocking import Connection
from marq.host.embedded_redis import EmbeddedServer
from marq.jobs.submission import submit_command
from marq.queue import depth, job_records, scripts
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.ids import JobId
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec

LANE, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)
WAITING_FOR_LONG = """
from workers.replica import batcher

batcher.IDLE_BLOCK_MS = 600_000

def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return data
"""


def states(client, count: int) -> set[bytes]:
    return {client.hget(keys.job("m", f"j{number}"), "state") for number in range(count)}


def add_jobs(client, count: int, body: str = "x", first: int = 0) -> None:
    for number in range(first, first + count):
        client.xadd(LANE, {"id": f"j{number}", "job": 1, "body": f"{body}"})


def reconnects(replica) -> bool:
    return any(line.startswith("Redis failed") for line in list(replica.process.output.tail))


def test_requests_are_answered_and_gone(start, register, gateway, client):
    # Given predictions and jobs that were queued before the replica
    spec = register(batch_size=4, max_batch_delay_ms=0)
    entries = gateway.send(b"a", b"rows", b"c")
    add_jobs(client, 1)
    start(spec)
    # Then each is answered, in batches
    replies = gateway.wait(3)
    assert [(reply.id, reply.status) for reply in replies] == [(entry, 200) for entry in entries]
    assert [reply.body for reply in replies] == [b"a", b"4", b"c"]
    wait_for(lambda: client.hget(keys.job("m", "j0"), "state"))
    record = job_records.parse_record(JobId("m", "j0"), client.hgetall(keys.job("m", "j0")), None)
    assert (record.state, record.body, record.device, record.attempts) == ("succeeded", b"x", "cpu", 1)
    # And the lane is empty
    assert client.xlen(LANE) == client.xpending(LANE, keys.GROUP)["pending"] == 0


def test_what_passed_its_deadline_never_reaches_the_handler(start, register, gateway):
    now_ms = int(time.time() * 1000)
    gateway.send(b"die", deadline=now_ms - 1)
    gateway.send(b"in time", deadline=now_ms + 60_000)
    replica = start(register(batch_size=4))
    late, in_time = gateway.wait(2)
    assert sorted([late.status, in_time.status]) == [200, 504]
    assert replica.process.exit_code is None


@pytest.mark.parametrize(
    "row",
    [
        {"body": "[" * 100_000, "type": "application/json"},
        {"body": "x", "type": "multipart/form-data; my-boundary=b"},
        {"body": "x", "headers": "nonsense"},
        {"body": "exit"},
    ],
)
def test_no_row_brings_a_replica_down(start, register, gateway, client, row):
    client.xadd(LANE, {**row, "replies": gateway.stream})
    gateway.send(b"after")
    replica = start(register())
    assert gateway.wait(2)[-1].body == b"after"
    assert replica.process.exit_code is None


def test_malformed_entries_do_not_stop_a_replica(start, register, gateway, client):
    client.xadd(LANE, {"data": "no body"})
    client.xadd(LANE, {"body": "x", "id": b"\xff"})
    gateway.send(b"after")
    start(register())
    assert gateway.wait(1)[0].body == b"after"
    assert client.xlen(keys.dead_letters("m")) == 2


def test_a_job_whose_entry_is_malformed_has_failed_and_says_why(start, register, plain, client):
    fields = EntryFields(b"x", EntryHead(deadline=b"soon"))
    script_keys, arguments = submit_command("m", "1.0", keys.NORMAL, [(b"7", fields)])
    spec = register()
    plain.run(scripts.SUBMIT, script_keys, *arguments)
    start(spec)
    wait_for(lambda: client.hget(keys.job("m", "7"), "state") == b"failed", what="its failure")
    record = job_records.parse_record(JobId("m", "7"), client.hgetall(keys.job("m", "7")))
    assert (record.status, json.loads(record.body)["type"]) == (400, "BadRequestException")
    assert "the field `deadline` must be a whole number" in json.loads(record.body)["message"]


# results are published in time


def test_a_result_does_not_wait_for_the_next_slow_batch(start, register, gateway, release):
    # Given a slow handler and rows that were fetched together, of several lanes
    replica = start(register(batch_size=1))
    gateway.send(b"sleep 0.05")
    gateway.wait(1)
    gateway.send(b"hold queued")
    gateway.send(b"first", lane=keys.NORMAL)
    gateway.send(b"hold answered", lane=keys.LOW)
    wait_for(lambda: replica.process.board.busy_s > 0.05, what="a slow batch")
    release("queued")
    # Then the answer to the first is there while the other one still runs
    assert gateway.wait(3)[-1].body == b"first"
    release("answered")
    assert len(gateway.wait(4)) == 4


def test_a_result_is_not_lost_while_rows_that_are_held_wait_for_company(start, register, gateway, client):
    # Given a suspect, which is run alone, and a row that was fetched with it and waits for company
    gateway.send(b"suspect", lane=keys.FRONT, attempts=1)
    gateway.send(b"held")
    start(register(batch_size=8, max_batch_delay_ms=500, batching="fixed"))
    # Then both are answered
    assert sorted(reply.body for reply in gateway.wait(2)) == [b"held", b"suspect"]
    wait_for(lambda: client.xlen(LANE) + client.xlen(FRONT) == 0)


# stopping


def test_a_replica_that_waits_stops_at_once(start, register, client):
    # Given a replica that would wait for ten minutes
    replica = start(register(), handler=WAITING_FOR_LONG)
    wait_for(lambda: client.info("clients")["blocked_clients"], what="the wait")
    # Then it does not come to the end of its wait
    replica.process.drain()
    assert replica.wait_for_exit() == 0


def test_a_stop_finishes_the_running_batch_and_leaves_the_rest_queued(
    start, register, gateway, registry, client, release
):
    # Given a replica that runs one request while others wait
    spec = register(batch_size=2)
    replica = start(spec)
    gateway.send(b"hold it", b"with it")
    replica.wait_until_running()
    running = len(replica.process.board.running)
    gateway.send(b"later", b"much later", lane=keys.HIGH)
    # When it is told to stop
    replica.process.drain()
    assert replica.process.exit_code is None
    release("it")
    # Then it answers the running requests and ends well
    assert replica.wait_for_exit() == 0
    replies = gateway.replies()
    assert replies[0].body == b"hold it"
    assert len(replies) == running
    # And whatever else it had fetched is queued as before
    replica.put_back()
    assert depth.read(registry.redis, [spec])[spec.key].waiting == 4 - running
    start(spec)
    assert sorted(reply.body for reply in gateway.wait(4)) == sorted(
        [b"hold it", b"with it", b"later", b"much later"]
    )
    assert client.xpending(LANE, keys.GROUP)["pending"] == 0


# failures around it


def test_what_a_killed_replica_ran_is_run_by_another(start, register, gateway, client, release):
    # Given a replica that is killed while it runs a batch
    spec = register(batch_size=2)
    replica = start(spec)
    gateway.send(b"hold it")
    replica.wait_until_running()
    replica.process.kill()
    assert replica.wait_for_exit() == -signal.SIGKILL
    # When its pool puts back what it held
    assert len(replica.process.board.running) == 1
    replica.put_back()
    assert [fields[b"attempts"] for _, fields in client.xrange(FRONT)] == [b"1"]
    # Then another one answers it, once
    release("it")
    start(spec)
    assert [reply.body for reply in gateway.wait(1)] == [b"hold it"]


def test_a_request_that_kills_takes_nobody_with_it(start, register, gateway):
    # Given a batch in which one request ends the process
    spec = register(batch_size=4, max_batch_delay_ms=0, max_attempts=2)
    gateway.send(b"a", b"die", b"b")
    for _ in range(3):
        process = (replica := start(spec, wait=False)).process
        wait_for(lambda process=process: process.exit_code is not None or len(gateway.replies()) == 3)
        if process.exit_code is None:
            break
        # When it is put back each time it has ended one
        replica.put_back()
    # Then it fails, and its neighbours succeed
    answers = {reply.body: reply.status for reply in gateway.wait(3)}
    assert sorted(answers.values()) == [200, 200, 500]
    assert answers[b"a"] == answers[b"b"] == 200
    [body] = answers.keys() - {b"a", b"b"}
    assert json.loads(body)["message"] == "Worker died."


def test_no_request_is_lost_with_the_connections(start, register, client):
    # Given a replica in the middle of many jobs
    add_jobs(client, 200, "sleep 0.002")
    replica = start(register(batch_size=4, max_batch_delay_ms=0))
    # When its connections are cut several times
    for count in (20, 60, 100):
        wait_for(lambda count=count: replica.process.report().requests >= count)
        client.client_kill_filter(_type="normal")
    # Then every job is done
    wait_for(lambda: states(client, 200) == {b"succeeded"}, what="all jobs")
    assert client.xlen(LANE) == client.xlen(FRONT) == 0
    assert replica.process.exit_code is None


def test_no_request_is_lost_with_a_restart_of_redis(start, tmp_path, release):
    # Given a Redis of its own, with a file, and a replica in the middle of many jobs
    server = EmbeddedServer(tmp_path / "redis")
    server.start()
    with clients.client(server.url) as client:
        spec = ModelSpec("m", "1.0", "m.mar", "/m.mar", "handler.py", batch_size=4, max_batch_delay_ms=0)
        Registry(client).register(spec)
        add_jobs(client, 50, "sleep 0.005")
        add_jobs(client, 1, "hold the-others", first=50)
        add_jobs(client, 49, "sleep 0.005", first=51)
        replica = start(spec, redis_url=server.url)
        wait_for(lambda: replica.process.report().requests >= 20)
        # When Redis is restarted
        server.stop()
        assert replica.process.report().requests < 100
        release("the-others")
        server.start()
        # Then every job is done
        wait_for(lambda: states(client, 100) == {b"succeeded"}, what="all jobs")
        assert replica.process.exit_code is None
        replica.process.kill()
    server.stop()


def test_an_answer_that_redis_has_no_room_for_is_sent_again(start, register, gateway, client, release):
    # Given a replica that runs a request
    replica = start(register())
    gateway.send(b"hold it")
    replica.wait_until_running()
    # When Redis is full for a while
    client.config_set("maxmemory", 1)
    try:
        release("it")
        wait_for(lambda: reconnects(replica), what="the refusal of the answer")
        assert gateway.replies() == []
    finally:
        client.config_set("maxmemory", 0)
    # Then the answer comes afterwards
    assert gateway.wait(1)[0].body == b"hold it"


def test_a_replica_works_on_after_its_model_was_removed_and_came_back(start, register, gateway, client):
    replica = start(register())
    client.delete(*keys.lanes("m", "1.0"))
    gateway.send(b"too early")
    wait_for(lambda: reconnects(replica), what="a failed read")
    register()
    assert gateway.wait(1)[0].body == b"too early"
    assert replica.process.exit_code is None


def test_scripts_that_redis_forgot_lose_no_result(start, register, client):
    start(register())
    client.script_flush()
    add_jobs(client, 3)
    wait_for(lambda: states(client, 3) == {b"succeeded"})


def test_connections_of_replicas_are_their_own(redis_url):
    first, second = Connection(redis_url), Connection(redis_url)
    assert first.execute("CLIENT", "ID") != second.execute("CLIENT", "ID")
    first.close()
    second.close()
