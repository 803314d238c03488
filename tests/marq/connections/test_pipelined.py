import asyncio

import hiredis
import pytest

from marq.connections.pipelined import PipelinedConnection
from marq.connections.urls import pack
from marq.errors import RedisUnavailable, ServiceUnavailable


@pytest.fixture
def lost():
    """The connections that were lost."""
    return []


@pytest.fixture
def tagged():
    """What was answered to commands with a tag: (tag, reply)."""
    return []


@pytest.fixture
async def connection(redis_url, lost, tagged):
    connection = await PipelinedConnection.open(
        redis_url, lost.append, lambda *answered: tagged.append(answered)
    )
    yield connection
    connection.close()


async def is_blocked(client):
    """Returns when Redis holds back the reply of a command."""
    while not client.info("clients")["blocked_clients"]:
        await asyncio.sleep(0.01)


async def test_replies_come_in_the_order_of_the_commands(connection):
    replies = await asyncio.gather(*(connection.execute("ECHO", str(number)) for number in range(1000)))
    assert replies == [b"%d" % number for number in range(1000)]


async def test_commands_of_one_turn_leave_in_one_write(connection, monkeypatch):
    written = []
    monkeypatch.setattr(
        connection, "_transport", type("T", (), {"write": written.append, "close": lambda self: None})()
    )
    commands = [("PING",), ("ECHO", "x"), ("SET", "k", "v")]
    for command in commands:
        connection.execute(*command)
    assert written == []
    await asyncio.sleep(0)
    assert written == [b"".join(map(pack, commands))]


async def test_an_error_reaches_its_own_command_alone(connection):
    commands = [("SET", "k", 1), ("LPUSH", "k", "x"), ("GET", "k")]
    results = await asyncio.gather(
        *(connection.execute(*command) for command in commands), return_exceptions=True
    )
    assert results[::2] == [b"OK", b"1"]
    assert isinstance(results[1], hiredis.ReplyError)


async def test_a_command_that_is_given_up_does_not_shift_the_replies(connection):
    first = connection.execute("ECHO", "first")
    first.cancel()
    assert await connection.execute("ECHO", "second") == b"second"


async def test_a_tagged_command_is_answered_with_its_tag(connection, client, tagged):
    # Given two commands of which Redis refuses one
    client.set("text", 1)
    connection.send(pack(("XADD", "text", "*", "a", "b")), b"1")
    connection.send(pack(("XADD", "stream", "*", "a", "b")), b"2")
    await connection.execute("PING")
    # Then each reply comes with its tag
    [(first, refusal), (second, entry)] = tagged
    assert (first, second) == (b"1", b"2")
    assert isinstance(refusal, hiredis.ReplyError) and "WRONGTYPE" in str(refusal)
    assert [(entry, {b"a": b"b"})] == client.xrange("stream")


async def test_whoever_waits_hears_that_the_connection_is_lost(connection, client, lost, tagged):
    # Given a command without an answer yet, and one with a tag
    blocked = connection.execute("BLPOP", "nothing", 0)
    connection.send(pack(("XADD", "stream", "*", "a", "b")), b"1")
    await is_blocked(client)
    # When the connection is cut
    client.client_kill_filter(_type="normal")
    # Then both are told, and so is the owner
    with pytest.raises(ConnectionError):
        await blocked
    [(tag, error)] = tagged
    assert tag == b"1" and isinstance(error, ServiceUnavailable)
    assert lost == [connection]


async def test_a_lost_connection_is_an_error_that_knows_its_status(connection, client):
    blocked = connection.execute("BLPOP", "nothing", 0)
    await is_blocked(client)
    client.client_kill_filter(_type="normal")
    with pytest.raises(ServiceUnavailable, match="the connection to Redis was lost") as caught:
        await blocked
    assert caught.value.status == 503


async def test_a_command_for_a_connection_that_is_gone_fails_too(connection, client, lost):
    client.client_kill_filter(_type="normal")
    while not lost:
        await asyncio.sleep(0.001)
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(connection.execute("PING"), 60)


async def test_a_database_can_be_chosen(redis_url, client):
    connection = await PipelinedConnection.open(redis_url.removesuffix("0") + "3", lambda _: None)
    await connection.execute("SET", "k", "v")
    assert client.get("k") is None
    assert b"k" in await connection.execute("KEYS", "*")
    connection.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@127.0.0.1:1",
        "redis://:secret@no-such-host.invalid",
        "unix://:secret@/no/such/socket",
        "http://:secret@h",
        "redis://:secret@h:port",
    ],
)
async def test_what_is_no_redis_is_told_without_the_password(url):
    with pytest.raises(RedisUnavailable, match="cannot be used") as caught:
        await PipelinedConnection.open(url, lambda _: None)
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_told(redis_url):
    with pytest.raises(RedisUnavailable, match="WRONGPASS"):
        await PipelinedConnection.open(redis_url.replace("@", "wrong@"), lambda _: None)
