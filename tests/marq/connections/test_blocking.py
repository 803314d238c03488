import contextlib

import pytest
import redis

from marq import keys
from marq.connections import clients
from marq.connections.blocking import Connection
from marq.connections.urls import without_password
from marq.errors import RedisUnavailable
from marq.queue import scripts


@pytest.fixture
def plain(redis_url):
    connection = Connection(redis_url)
    yield connection
    connection.close()


@pytest.fixture
def full(client):
    """Redis takes no writes inside `with full():`."""

    @contextlib.contextmanager
    def full():
        client.config_set("maxmemory", 1)
        try:
            yield
        finally:
            client.config_set("maxmemory", 0)

    return full


def note(told: list):
    return lambda blocked: told.append(blocked)


@pytest.mark.parametrize(
    ("url", "logged"),
    [
        ("redis://:secret@h:6379/0", "redis://:***@h:6379/0"),
        ("rediss://user:secret@h:6379/0?a=b", "rediss://user:***@h:6379/0?a=b"),
        ("redis://user:se%40cret@h", "redis://user:***@h"),
        ("redis://user:s@cret@h", "redis://user:***@h"),
        ("unix://:secret@/run/redis.sock?db=1", "unix://:***@/run/redis.sock?db=1"),
        ("redis://h:6379?password=secret&db=1", "redis://h:6379?password=***&db=1"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user@h:6379/0", "redis://user@h:6379/0"),
    ],
)
def test_a_url_is_logged_without_its_password(url, logged):
    assert without_password(url) == logged


def test_a_redis_that_answers_passes_the_check(redis_url):
    clients.check(redis_url)


def test_a_wrong_password_is_told_without_showing_it(redis_url):
    url = redis_url.replace("@", "wrong@")
    with pytest.raises(RedisUnavailable) as caught:
        clients.check(url)
    assert without_password(url) in str(caught.value)
    assert "wrong" not in str(caught.value).partition("cannot be used")[0]


@pytest.mark.parametrize("url", ["redis://:secret@127.0.0.1:1", "http://:secret@h", "nonsense"])
def test_what_is_no_redis_is_told(url):
    with pytest.raises(RedisUnavailable, match="cannot be used") as caught:
        clients.check(url)
    assert "secret" not in str(caught.value)


def test_a_pipeline_answers_in_order_and_errors_in_their_place(plain):
    replies = plain.pipeline([("SET", "k", b"1"), ("LPUSH", "k", "x"), ("GET", "k")])
    assert replies[0] == b"OK"
    assert isinstance(replies[1], redis.ResponseError)
    assert replies[2] == b"1"


def test_a_command_that_redis_refuses_raises(plain):
    plain.execute("SET", "k", 1)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        plain.execute("LPUSH", "k", "x")
    assert plain.execute("GET", "k") == b"1"


def test_a_read_says_when_it_blocks(plain, client):
    # Given a stream with an entry
    entry = client.xadd("s", {"a": "b"})
    told: list[bool] = []
    # When it is read together with other commands
    reply = plain.read([("SET", "k", 1)], ("XREAD", "BLOCK", 10, "STREAMS", "s", "0"), note(told))
    # Then the others have been done before the wait is told
    assert reply == [[b"s", [[entry, [b"a", b"b"]]]]]
    assert told == [True, False]
    assert client.get("k") == b"1"


def test_a_read_of_nothing_ends_with_its_time(plain):
    told: list[bool] = []
    assert plain.read([], ("XREAD", "BLOCK", 5, "STREAMS", "s", "0"), note(told)) is None
    assert told == [True, False]


def test_what_redis_never_accepts_is_logged_and_dropped(plain, client, caplog):
    client.set("k", 1)
    entry = client.xadd("s", {"a": "b"})
    reply = plain.read([("LPUSH", "k", "x")], ("XREAD", "STREAMS", "s", "0"), note([]))
    assert reply[0][1][0][0] == entry
    assert "Redis refused LPUSH k: WRONGTYPE" in caplog.text


def test_what_redis_may_accept_later_raises_before_the_wait(plain, full):
    told: list[bool] = []
    command = scripts.SUBMIT.call([keys.lane("m", "v")], 1, "v", "", 0, "1", "body", "x")
    with full(), pytest.raises(redis.exceptions.OutOfMemoryError):
        plain.read([command], ("XREAD", "BLOCK", 1000, "STREAMS", "s", "0"), note(told))
    assert told == []
    # And the connection starts afresh: the read's reply is not taken for the next one's
    assert plain.execute(*command)


def test_sent_commands_are_settled_like_those_before_a_read(plain, client, full, caplog):
    client.set("k", 1)
    plain.send([("LPUSH", "k", "x"), ("SET", "other", 2)])
    assert client.get("other") == b"2"
    assert "Redis refused LPUSH k" in caplog.text
    with full(), pytest.raises(redis.exceptions.OutOfMemoryError):
        plain.send([scripts.SUBMIT.call([keys.lane("m", "v")], 1, "v", "", 0, "1", "body", "x")])


def test_a_refused_read_raises(plain, client):
    with pytest.raises(redis.ResponseError, match="NOGROUP"):
        plain.read([], ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"), note([]))


def test_a_lost_connection_is_opened_again_by_the_next_call(plain, client):
    plain.execute("PING")
    client.client_kill_filter(_type="normal")
    with pytest.raises(redis.ConnectionError):
        plain.execute("PING")
    assert plain.execute("PING") == b"PONG"
