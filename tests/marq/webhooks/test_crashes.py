"""Senders that are killed lose no message, and what is sent twice has one id."""

import subprocess
import sys

import pytest
from support import wait_for

from marq import keys

SENDER = """
import asyncio, sys
from marq.queue.broker import Broker
from marq.webhooks import outbox, sending
from marq.webhooks.hosts import AllowedHosts

outbox.TAKEN_MS, sending.PAUSE_S = 1000, 0.05

async def main():
    broker = Broker(sys.argv[1])
    await broker.start()
    await sending.Sender(outbox.Outbox(broker), AllowedHosts.parse("127.0.0.1")).follow()

asyncio.run(main())
"""
JOBS = 60


@pytest.mark.slow
async def test_all_messages_arrive_although_senders_are_killed(submit, answer, receiver, redis_url, client):
    # Given many messages
    for number in range(JOBS):
        await submit(f"{receiver.url}/{number}")
    answer(JOBS)
    # When their sender is killed in the midst of them, and the next one, too
    for taken in (1, JOBS // 3, None):
        with subprocess.Popen([sys.executable, "-c", SENDER, redis_url]) as sender:
            if taken is not None:
                wait_for(lambda taken=taken: len(receiver.received) >= taken, what="deliveries")
            else:
                wait_for(lambda: not client.zcard(keys.webhooks("echo", "due")), what="an empty outbox")
            sender.kill()
    # Then each message was delivered
    delivered = {each.json["data"]["job_id"] for each in receiver.received}
    assert delivered == {f"echo:{number}" for number in range(JOBS)}
    # And a message that came twice has one id
    assert len({each.id for each in receiver.received}) == JOBS
    assert client.zrange(keys.webhooks("echo", "failed"), 0, -1) == []
    left = {key: client.hgetall(key) for key in client.scan_iter("marq:{echo}:webhook*")}
    assert left == {}
