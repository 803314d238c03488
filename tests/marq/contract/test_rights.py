"""The recipe of docs/queue-contract.md for a producer that may only append to named lanes."""

from pathlib import Path

import pytest
import redis
from support import wait_for

from marq.queue.replies.entries import decode_replies

RECIPE = next(
    line
    for line in (Path(__file__).parents[3] / "docs/queue-contract.md").read_text().splitlines()
    if line.startswith("ACL SETUSER producer")
)


@pytest.fixture
def producer(client, registry, spec):
    """A connection of the user that the recipe makes for `digits`, here for the model `echo`."""
    client.execute_command(*RECIPE.replace("{digits}", "{echo}").split())
    options = {**client.connection_pool.connection_kwargs, "username": "producer", "password": "SECRET"}
    connection = redis.Redis(
        connection_pool=redis.ConnectionPool(client.connection_pool.connection_class, **options)
    )
    yield connection
    connection.close()
    client.acl_deluser("producer")


def test_it_is_answered(producer, start_replica):
    start_replica()
    producer.xadd("marq:{echo}:normal:1.0", {"body": "x", "reply": "answers:producer:1"})
    wait_for(lambda: producer.xread({"answers:producer:1": 0}), what="the reply")
    [[_, [(_, reply)]]] = producer.xread({"answers:producer:1": 0})
    [found] = decode_replies([each for pair in reply.items() for each in pair])
    assert (found.status, found.body) == (200, b"x")


@pytest.mark.parametrize(
    "command",
    [
        ("XADD", "marq:{echo}:high:1.0", "*", "body", "x"),
        ("XADD", "marq:{other}:normal:1.0", "*", "body", "x"),
        ("XADD", "answers:producer:1", "*", "body", "x"),
        ("XREAD", "STREAMS", "marq:{echo}:normal:1.0", "0"),
        ("XREAD", "STREAMS", "answers:another:1", "0"),
        ("XRANGE", "answers:producer:1", "-", "+"),
        ("DEL", "marq:{echo}:normal:1.0"),
        ("HGETALL", "marq:tokens"),
        ("FLUSHALL",),
        ("EVAL", "return 1", "0"),
    ],
)
def test_it_may_do_nothing_else(producer, command):
    with pytest.raises(redis.exceptions.NoPermissionError):
        producer.execute_command(*command)
