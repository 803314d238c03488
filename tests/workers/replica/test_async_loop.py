"""Replicas of coroutine handlers: nothing is lost, whatever happens to Redis or to them."""

import signal

from support import wait_for

from marq import keys
from marq.connections import clients
from marq.host.embedded_redis import EmbeddedServer
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec

HANDLER = """
import asyncio, os
from pathlib import Path

class Handler:
    def initialize(self, context):  # noqa: ARG002
        pass

    async def handle(self, data, context):
        with Path("runs").open("a") as runs:
            runs.write("\\n".join(context.request_ids.values()) + "\\n")
        command, _, argument = bytes(data[0]["body"]).decode().partition(" ")
        if command == "die":
            os._exit(3)
        if command == "block":
            __import__("time").sleep(float(argument))
        await asyncio.sleep(float(argument or 0))
        return [row["body"] for row in data]
"""
LANE, FRONT = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.FRONT)


def add_jobs(client, count: int, body: str) -> None:
    for number in range(count):
        client.xadd(LANE, {"id": f"j{number}", "job": 1, "body": body})


def succeeded(client, count: int) -> int:
    return sum(client.hget(keys.job("m", f"j{n}"), "state") == b"succeeded" for n in range(count))


def runs(tmp_path) -> list[str]:
    return (tmp_path / "model" / "runs").read_text().split()


def test_no_job_is_lost_or_run_twice_when_connections_are_cut(start, register, client, tmp_path):
    add_jobs(client, 600, "sleep 0.2")
    replica = start(register(async_communication=True), handler=HANDLER)
    for count in (50, 150, 300):
        wait_for(lambda count=count: replica.process.report().requests >= count)
        client.client_kill_filter(_type="normal")
    wait_for(lambda: succeeded(client, 600) == 600, what="all jobs")
    assert len(runs(tmp_path)) == len(set(runs(tmp_path))) == 600
    assert client.xlen(LANE) == client.xlen(FRONT) == 0


def test_no_job_is_lost_with_a_restart_of_redis(start, tmp_path):
    server = EmbeddedServer(tmp_path / "redis")
    server.start()
    with clients.client(server.url) as client:
        spec = ModelSpec("m", "1.0", "m.mar", "/m.mar", "handler.py", async_communication=True)
        Registry(client).register(spec)
        replica = start(spec, redis_url=server.url, handler=HANDLER)
        add_jobs(client, 200, "sleep 0.5")
        wait_for(lambda: replica.process.board.running)
        server.stop()
        server.start()
        wait_for(lambda: succeeded(client, 200) == 200, what="all jobs")
        assert replica.process.exit_code is None
        replica.process.kill()
    server.stop()


def test_what_runs_when_a_replica_dies_is_to_blame_and_nothing_else(start, register, client):
    add_jobs(client, 3, "sleep 60")
    replica = start(register(async_communication=True), handler=HANDLER)
    wait_for(lambda: len(replica.process.board.running) == 3)
    replica.process.kill()
    assert replica.wait_for_exit() == -signal.SIGKILL
    replica.put_back()
    assert [fields[b"attempts"] for _, fields in client.xrange(FRONT)] == [b"1"] * 3


def test_a_loop_that_is_stuck_is_noticed(start, register, client, monkeypatch):
    monkeypatch.setattr("workers.pool.replica_process.ASYNC_GRACE_S", 0.5)
    add_jobs(client, 1, "block 30")
    replica = start(register(async_communication=True, response_timeout_s=1), handler=HANDLER)
    wait_for(lambda: replica.process.overdue(), what="the time-out")


def test_a_deadline_that_has_passed_is_not_run(start, register, client, tmp_path):
    client.xadd(LANE, {"id": "late", "job": 1, "body": "sleep 0", "deadline": 1})
    add_jobs(client, 1, "sleep 0")
    start(register(async_communication=True), handler=HANDLER)
    wait_for(lambda: client.hget(keys.job("m", "late"), "state") == b"expired")
    wait_for(lambda: succeeded(client, 1) == 1)
    assert runs(tmp_path) == ["j0"]
