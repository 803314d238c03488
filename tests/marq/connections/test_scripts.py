"""Redis forgets its scripts when it restarts or is flushed: each kind of connection loads them again."""

import hiredis
import pytest
import redis

from marq.connections import clients
from marq.connections.background import Sender
from marq.connections.blocking import Connection
from marq.connections.pipelined import PipelinedConnection
from marq.connections.scripts import Script

APPEND = Script('return redis.call("RPUSH", KEYS[1], ARGV[1])')
ADD_AFTER = Script(
    'if redis.call("LLEN", KEYS[1]) == tonumber(ARGV[1]) then redis.call("RPUSH", KEYS[1], ARGV[1]) end'
)
WRONG = Script('return redis.call("LPUSH", KEYS[1])')


@pytest.fixture
def plain(redis_url):
    connection = Connection(redis_url)
    yield connection
    connection.close()


def append(value: str):
    return APPEND.call(["list"], value)


def listed(client) -> list[bytes]:
    return client.lrange("list", 0, -1)


def test_a_script_runs_where_redis_does_not_know_it(plain, client):
    assert plain.run(APPEND, ["list"], "a") == 1
    client.script_flush()
    assert plain.run(APPEND, ["list"], "b") == 2
    assert listed(client) == [b"a", b"b"]


def test_an_error_of_a_script_is_raised(plain):
    with pytest.raises(redis.ResponseError, match="number of args"):
        plain.run(WRONG, ["list"])


def test_calls_of_a_pipeline_run_once_each_and_in_order(plain, client):
    client.script_flush()
    replies = plain.pipeline([append("a"), ("SET", "k", "1"), append("b"), WRONG.call(["list"])])
    assert replies[:3] == [1, b"OK", 2]
    assert isinstance(replies[3], redis.ResponseError)
    assert listed(client) == [b"a", b"b"]


def test_a_call_that_needs_the_one_before_it_runs_after_it(plain, client):
    # Given a Redis that knows only the second of two scripts
    client.script_flush()
    client.script_load(ADD_AFTER.text)
    # When both are called together
    plain.pipeline([append("0"), ADD_AFTER.call(["list"], "1")])
    # Then the second one has found what the first one did
    assert listed(client) == [b"0", b"1"]


def test_sent_and_posted_calls_run(plain, client):
    client.script_flush()
    plain.post([append("a")])
    assert plain.send([("SET", "k", "1"), append("b")]) == [b"OK", 2]
    assert listed(client) == [b"a", b"b"]


def test_a_call_before_a_blocking_read_runs_before_the_wait(plain, client):
    # Given a stream without entries, and a Redis without scripts
    client.script_flush()
    seen: list[list[bytes]] = []
    # When a script is called together with a read that waits
    read = ("XREAD", "BLOCK", 100, "STREAMS", "stream", "$")
    reply = plain.read([append("a")], read, lambda blocked: seen.append(listed(client)))
    # Then it has run before the wait, and the read's reply is the read's
    assert reply is None
    assert seen == [[b"a"], [b"a"]]


def test_a_call_in_a_transaction_runs_with_it(plain, client):
    client.script_flush()
    plain.transaction([("SET", "k", "1"), append("a")])
    assert (client.get("k"), listed(client)) == (b"1", [b"a"])


def test_a_transaction_that_redis_refuses_raises_and_does_nothing(plain, client):
    with pytest.raises(redis.ResponseError, match="discarded"):
        plain.transaction([("SET", "k", "1"), ("NONSENSE",)])
    assert client.get("k") is None


def test_what_a_thread_sends_in_the_background_arrives(redis_url, client):
    sender = Sender(redis_url)
    sender.send([append("a")])
    sender.settle()
    client.script_flush()
    sender.send([append("b"), append("c")])
    sender.settle()
    assert listed(client) == [b"a", b"b", b"c"]


def test_redis_py_runs_calls_as_well(client):
    client.script_flush()
    assert clients.pipeline(client, [append("a"), ("PING",), append("b")]) == [1, True, 2]
    client.script_flush()
    assert clients.run(client, append("c")) == 3
    with pytest.raises(redis.ResponseError, match="number of args"):
        clients.run(client, WRONG.call(["list"]))


async def test_the_asynchronous_connection_runs_calls_as_well(redis_url, client):
    connection = await PipelinedConnection.open(redis_url, lambda _: None)
    client.script_flush()
    assert await connection.run_all([append("a"), append("b")]) == [1, 2]
    client.script_flush()
    assert await connection.run(append("c")) == 3
    with pytest.raises(hiredis.ReplyError, match="number of args"):
        await connection.run(WRONG.call(["list"]))
    assert listed(client) == [b"a", b"b", b"c"]
    connection.close()


def test_redis_that_forbids_to_load_scripts_is_an_error_and_no_endless_loop(plain, client):
    client.script_flush()
    client.acl_setuser("default", enabled=True, categories=["+@all"], commands=["-script|load"])
    try:
        with pytest.raises(redis.exceptions.NoScriptError):
            plain.run(APPEND, ["list"], "a")
    finally:
        client.acl_setuser("default", enabled=True, categories=["+@all"])
