import asyncio
import logging

import hiredis
import pytest
from ports import free_port
from thread_replica import echo

from marq import keys
from marq.errors import BadReply, RedisUnavailable, ServiceUnavailable
from marq.host.embedded_redis import EmbeddedServer
from marq.queue import broker as broker_module
from marq.queue import scripts
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields, EntryHead
from marq.queue.replies import reader as reader_module
from marq.queue.replies.entries import Reply

LANE = keys.lane("echo", "1.0").encode()


@pytest.fixture
async def broker(redis_url, spec):
    broker = Broker(redis_url, "test")
    await broker.start()
    yield broker
    await broker.stop()


async def soon(condition) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.005)


async def answered(future, timeout_s: float = 60) -> Reply:
    return await asyncio.wait_for(future, timeout_s)


def reply_to(client, *replies: Reply) -> None:
    """Writes replies as one entry of the broker's stream."""
    flat = [part for reply in replies for part in reply.fields()]
    client.execute_command("XADD", keys.replies("test"), "*", *flat)


def predict(broker, request_id: bytes, body: bytes = b"x"):
    return broker.predict(LANE, request_id, EntryFields(body))


async def test_a_prediction_is_queued_and_its_reply_comes_back(broker, start_replica):
    start_replica()
    reply = await answered(predict(broker, b"1", b"hello"))
    assert (reply.id, reply.status, reply.body) == (b"1", 200, b"hello")
    assert broker.in_flight == 0


async def test_an_entry_carries_its_id_where_to_answer_and_what_it_was_given(broker, client):
    predict(broker, b"1", b"hello")
    await soon(lambda: client.xlen(LANE))
    [(_, fields)] = client.xrange(LANE)
    assert fields == {b"id": b"1", b"replies": broker.stream.encode(), b"body": b"hello"}


async def test_many_predictions_get_their_own_replies(broker, start_replica):
    start_replica(lambda request: Reply(request.id, 200, request.body + b"!"))
    futures = [predict(broker, b"%d" % number, b"body %d" % number) for number in range(500)]
    replies = await asyncio.gather(*map(answered, futures))
    assert [reply.body for reply in replies] == [b"body %d!" % number for number in range(500)]


async def test_one_entry_may_answer_several_predictions(broker, client):
    first, second, third = (predict(broker, i) for i in (b"1", b"2", b"3"))
    reply_to(client, Reply(b"3", 200, b"c"), Reply(b"1", 503, b"a", b'{"x": "y"}'))
    assert (await answered(first)).headers == b'{"x": "y"}'
    assert (await answered(third)).body == b"c"
    assert not second.done()
    assert broker.in_flight == 1


async def test_replies_that_nobody_waits_for_are_ignored(broker, client):
    # Given a prediction that was given up, and one that is not this broker's
    future = predict(broker, b"1")
    broker.forget(b"1")
    reply_to(client, Reply(b"1", 200, b"late"), Reply(b"unknown", 200, b""))
    # Then what comes after them is heard
    other = predict(broker, b"2")
    reply_to(client, Reply(b"2", 200, b"heard"))
    assert (await answered(other)).body == b"heard"
    assert not future.done()


async def test_a_second_reply_is_ignored(broker, client):
    future = predict(broker, b"1")
    reply_to(client, Reply(b"1", 200, b"first"), Reply(b"1", 200, b"second"))
    assert (await answered(future)).body == b"first"
    other = predict(broker, b"2")
    reply_to(client, Reply(b"1", 200, b"third"), Reply(b"2", 200, b""))
    await answered(other)


async def test_a_bad_reply_of_a_packed_entry_fails_its_own_request_only(broker, client, caplog):
    bad, good = predict(broker, b"1"), predict(broker, b"2")
    reply_to(client, Reply(b"1", 600, b"one"), Reply(b"2", 200, b"two"))
    assert (await answered(bad)).status == 502
    assert (await answered(good)).body == b"two"
    assert "request 1: " in caplog.text


async def test_a_receiver_that_raises_gets_an_error_and_does_not_stop_the_reader(broker, client):
    bad, good = predict(broker, b"1"), predict(broker, b"2")

    def refuse(_reply):
        raise KeyError(600)

    bad.set_result = refuse
    reply_to(client, Reply(b"1", 200, b"one"), Reply(b"2", 200, b"two"))
    assert (await answered(good)).body == b"two"
    with pytest.raises(BadReply):
        await answered(bad)


@pytest.mark.parametrize("fields", [["body", "x"]])
async def test_what_is_no_reply_is_logged_and_does_not_stop_the_reader(broker, client, caplog, fields):
    future = predict(broker, b"1")
    client.execute_command("XADD", broker.stream, "*", *fields)
    reply_to(client, Reply(b"1", 200, b"heard"))
    assert (await answered(future)).body == b"heard"
    assert "is not a reply" in caplog.text


async def test_an_unblocked_read_does_not_stop_the_reader(broker, client):
    # Given an administrator who wakes all blocked clients
    await soon(lambda: any(c["cmd"] == "xread" for c in client.client_list()))
    for number in (c["id"] for c in client.client_list() if c["cmd"] == "xread"):
        client.client_unblock(number)
    # Then replies are heard
    future = predict(broker, b"1")
    reply_to(client, Reply(b"1", 200, b"heard"))
    assert (await answered(future)).body == b"heard"


async def test_a_refused_entry_reaches_its_future(broker, client):
    client.set("no-lane", "text")
    future = broker.predict(b"no-lane", b"1", EntryFields(b"x"))
    with pytest.raises(ServiceUnavailable, match="Redis refused the request: WRONGTYPE"):
        await answered(future)
    assert broker.in_flight == 0


async def test_a_full_redis_is_told_at_once(broker, client):
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(ServiceUnavailable, match="OOM"):
            await answered(predict(broker, b"1"))
    finally:
        client.config_set("maxmemory", 0)


async def test_commands_can_be_run_beside_predictions(broker, client):
    assert await broker.execute("SET", "k", "v") == b"OK"
    assert await broker.execute("GET", "k") == b"v"
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        await broker.execute("LPUSH", "k", "x")


async def test_a_script_is_loaded_again_where_redis_forgot_it(broker, client):
    client.script_flush()
    lane, job = keys.lane("m", "v"), (1, "v", "", 0, "1", "body", "x")
    assert await broker.run(scripts.SUBMIT, [lane], *job)
    client.delete(lane, keys.job("m", "1"))
    client.set(lane, "not a stream")
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        await broker.run(scripts.SUBMIT, [lane], *job)


async def test_a_lost_connection_is_opened_again(broker, client, start_replica, caplog):
    # Given a broker whose connections are cut
    client.client_kill_filter(_type="normal")
    start_replica()
    await soon(lambda: "connection to Redis was lost" in caplog.text)
    caplog.set_level(logging.WARNING)
    await soon(lambda: caplog.text.count("connected to Redis again") == 2)
    # Then predictions work again
    assert (await answered(predict(broker, b"1", b"again"))).body == b"again"


async def test_a_reply_that_comes_while_the_connection_is_lost_is_heard_later(broker, client):
    # Given a prediction that was queued
    future = predict(broker, b"1")
    await soon(lambda: client.xlen(LANE))
    # When the connections are cut and the reply is written before they are back
    client.client_kill_filter(_type="normal")
    reply_to(client, Reply(b"1", 200, b"kept"))
    # Then it is heard
    assert (await answered(future)).body == b"kept"


async def test_while_redis_is_gone_nothing_is_accepted_and_afterwards_everything(tmp_path):
    # Given a Redis that ends
    server = EmbeddedServer(tmp_path)
    server.start()
    broker = Broker(server.url)
    await broker.start()
    await asyncio.to_thread(server.stop)
    await soon(lambda: broker._commands is None)
    # Then requests are refused at once
    with pytest.raises(ServiceUnavailable, match="Redis is not reachable"):
        predict(broker, b"1")
    with pytest.raises(ServiceUnavailable):
        broker.execute("PING")
    assert broker.in_flight == 0
    # And when it is back they are queued
    await asyncio.to_thread(server.start)
    await soon(lambda: broker._commands)
    predict(broker, b"2")
    assert await broker.execute("XLEN", LANE) == 1
    assert await broker.execute("EXISTS", broker.stream) == 1
    await broker.stop()
    server.stop()


async def test_what_was_read_is_trimmed_while_replies_come(broker, client, start_replica):
    start_replica(echo)
    for number in range(3 * reader_module.TRIM_EVERY):
        await answered(predict(broker, b"%d" % number))
    assert client.xlen(broker.stream) <= reader_module.TRIM_EVERY + 1
    assert client.xlen(LANE) == 0


async def test_a_stream_without_a_reader_would_disappear(broker, client):
    assert 0 < client.ttl(broker.stream) <= broker_module.REPLIES_TTL_S


async def test_a_stream_that_has_disappeared_is_made_again(redis_url, client, monkeypatch, start_replica):
    # Given a broker whose process was stopped for so long that its stream has expired
    monkeypatch.setattr(broker_module, "KEEP_EVERY_S", 0.02)
    broker = Broker(redis_url)
    await broker.start()
    client.delete(broker.stream)
    # When it goes on
    await soon(lambda: client.ttl(broker.stream) > 0)
    # Then replies reach it again
    start_replica()
    assert (await answered(predict(broker, b"1", b"x"))).body == b"x"
    await broker.stop()


async def test_a_stop_deletes_the_stream_and_closes_the_connections(redis_url, client):
    broker = Broker(redis_url)
    await broker.start()
    assert client.exists(broker.stream)
    before = len(client.client_list())
    await broker.stop()
    assert not client.exists(broker.stream)
    await soon(lambda: len(client.client_list()) <= before - 2)


async def test_two_brokers_of_one_process_have_their_own_streams(redis_url):
    assert Broker(redis_url).stream != Broker(redis_url).stream


async def test_without_redis_a_start_fails():
    with pytest.raises(RedisUnavailable):
        await Broker(f"redis://127.0.0.1:{free_port()}").start()


@pytest.mark.parametrize(
    "head",
    [
        EntryHead(),
        EntryHead(type=b"application/json", headers=b'{"host":"x"}', path=b""),
        EntryHead(path="größe".encode(), params=b"a=1", deadline=b"1700000000000", attempts=b"1", reply=b"r"),
    ],
)
async def test_an_entry_is_packed_as_hiredis_packs_it(broker, head, monkeypatch):
    sent = []
    monkeypatch.setattr(broker._commands, "send", lambda packed, waiter: sent.append(packed))
    fields = EntryFields(b"\r\n$5\x00\xff" * 20, head)
    broker.predict(LANE, b"12", fields)
    command = (b"XADD", LANE, b"*", b"id", b"12", b"replies", broker.stream.encode(), *fields.flat())
    assert sent == [hiredis.pack_command(command)]
