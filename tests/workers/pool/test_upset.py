"""A request that ends replicas before it is run is given up as well, and its neighbours are answered."""

import pytest
from support import wait_for

from marq import keys
from workers.pool.celery_pool import ReplicaPool

# What a bug in the replica's own loop would do.
UPSET = """
from marq.queue.publishing import Publisher


def expire(publisher, requests):
    raise RuntimeError("the loop is upset")


Publisher.expire = expire
"""
PLAIN = "def handle(data, context): return data and [b'served'] * len(data)\n"
COROUTINE = """
class Handler:
    def initialize(self, context):  # noqa: ARG002
        pass

    async def handle(self, data, context):
        return [b"served"] * len(data)
"""


@pytest.fixture
def start_pool(make_pool, register, tmp_path, monkeypatch):
    """Runs the pool of a model in this process: start_pool(source)."""
    started = []

    def start(source: str, **settings) -> ReplicaPool:
        directory = tmp_path / "model"
        directory.mkdir()
        (directory / "handler.py").write_text(source)
        spec = make_pool(register(**settings), model_dir=str(directory))
        for name, value in spec.to_environment().items():
            monkeypatch.setenv(name, value)
        pool = ReplicaPool(limit=1)
        pool.start()
        started.append(pool)
        return pool

    yield start
    for pool in started:
        pool.stop()


@pytest.mark.parametrize(("source", "coroutine"), [(PLAIN, False), (COROUTINE, True)])
def test_what_ends_a_replica_before_it_runs_is_given_up_alone(start_pool, gateway, client, source, coroutine):
    gateway.send(b"good", b"better")
    gateway.send(b"evil", deadline=1)
    start_pool(UPSET + source, async_communication=coroutine, batch_size=4)
    wait_for(lambda: len(gateway.replies()) >= 3, what="all answers")
    assert sorted(reply.status for reply in gateway.replies()) == [200, 200, 500]
    [(_, letter)] = client.xrange(keys.dead_letters("m"))
    assert (letter[b"body"], letter[b"attempts"], letter[b"ending"]) == (b"evil", b"3", b"exit code 1")
    assert b"the loop is upset" in letter[b"log"]
