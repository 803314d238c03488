"""What a gateway process knows of the registered workflows, against a real Valkey."""

import asyncio

import pytest
import redis
from workflow_plant import DIAMOND, workflow_of

from gateway.workflows.known import KnownWorkflows
from marq.errors import WorkflowNotFound
from marq.queue.broker import Broker
from marq.workflows.store import WorkflowStore


def follow(url, *steps):
    """Calls each step, and refreshes after it with the mark that it returns."""

    async def run():
        broker, known = Broker(url), KnownWorkflows()
        await broker.start()
        try:
            for step in steps:
                await known.refresh(broker, step())
        finally:
            await broker.stop()
        return known

    return asyncio.run(run())


def test_it_follows_what_is_registered(redis_url):
    store, workflow = WorkflowStore(redis.Redis.from_url(redis_url)), workflow_of(DIAMOND)
    known = follow(redis_url, lambda: b"1", lambda: store.add(workflow) and b"1")
    assert known.get("w") == workflow
    known = follow(redis_url, lambda: b"1", lambda: store.remove("w") and b"1")
    with pytest.raises(WorkflowNotFound):
        known.get("w")


def test_a_redis_that_has_lost_them_gets_them_again(redis_url):
    client, workflow = redis.Redis.from_url(redis_url), workflow_of(DIAMOND)
    WorkflowStore(client).add(workflow)

    def lose():
        client.delete("marq:workflows")
        return b"2"

    known = follow(redis_url, lambda: b"1", lose)
    assert known.get("w") == workflow
    assert WorkflowStore(client).get("w") == workflow


def test_one_that_was_unregistered_does_not_come_back(redis_url):
    client = redis.Redis.from_url(redis_url)
    WorkflowStore(client).add(workflow_of(DIAMOND))
    follow(redis_url, lambda: b"1", lambda: client.delete("marq:workflows") and b"1")
    assert WorkflowStore(client).all() == {}
