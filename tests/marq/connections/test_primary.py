"""Connections to a primary that sentinels name follow it, and leave a server that takes no writes."""

import asyncio
import signal
import socket
import ssl
import threading

import certificates
import failover
import hiredis
import kombu
import pytest
import redis
from failover import PASSWORD, SENTINEL_PASSWORD, SERVICE, watched_redis
from support import wait_for
from tls_proxy import _copy

from marq import keys
from marq.connections import clients, sentinels
from marq.connections.blocking import Connection
from marq.connections.celery_urls import broker_settings
from marq.connections.pipelined import PipelinedConnection
from marq.errors import RedisUnavailable, ServiceUnavailable
from marq.queue.broker import Broker
from marq.queue.entries import EntryFields


@pytest.fixture
def breakable(tmp_path):
    with watched_redis(tmp_path) as watched:
        yield watched


@pytest.fixture
def node(tmp_path):
    """A server that nobody watches."""
    node = failover.start_node(tmp_path)
    with node.client() as client:
        wait_for(lambda: _answers(client), what="the server")
    yield node
    node.kill()


def _answers(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


def _url(node):
    return f"redis://:{PASSWORD}@127.0.0.1:{node.port}/0"


@pytest.mark.slow
@pytest.mark.parametrize("failure", ["killed", "stopped", "switched by hand"])
async def test_every_kind_of_connection_follows_a_failover(breakable, failure):
    # Given connections to the primary, and something written
    lost = asyncio.Event()
    replicas, client = Connection(breakable.url), clients.client(breakable.url)
    opened = await PipelinedConnection.open(breakable.url, lambda _: lost.set())
    replicas.execute("SET", "k", "v")
    assert client.get("k") == await opened.execute("GET", "k") == b"v"
    breakable.wait_until_replicated()
    # When the sentinels put the replica in its place
    if failure == "switched by hand":
        wait_for(lambda: _switches(breakable.sentinels[0]), what="the sentinel to know the replica well")
    else:
        breakable.primary.process.send_signal(signal.SIGKILL if failure == "killed" else signal.SIGSTOP)
    await asyncio.to_thread(breakable.wait_until_promoted)
    # Then a gateway's connection ends by itself, and the new ones of all are to the new primary
    await asyncio.wait_for(lost.wait(), 60)
    for execute in (replicas.execute, client.execute_command):
        wait_for(lambda execute=execute: _writes(execute), what="a write")
    again = await PipelinedConnection.open(breakable.url, lambda _: None)
    await again.execute("APPEND", "k", "p")
    with breakable.replica.client() as new:
        assert new.get("k") == b"vrrp"
    for each in (replicas, client, again):
        each.close()


def _switches(asked):
    try:
        with asked.client(SENTINEL_PASSWORD) as client:
            return client.execute_command("SENTINEL", "FAILOVER", SERVICE, "COORDINATED")
    except redis.ResponseError as error:
        assert "NOGOODSLAVE" in str(error)
        return False


def _writes(execute):
    try:
        execute("APPEND", "k", "r")
    except redis.RedisError:
        return False
    return True


def test_a_replicas_commands_are_kept_while_a_server_takes_no_writes(node, caplog):
    plain = Connection(_url(node))
    plain.execute("SET", "k", 1)
    for refuse, allow in (
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
        (("CONFIG", "SET", "min-replicas-to-write", 1), ("CONFIG", "SET", "min-replicas-to-write", 0)),
    ):
        plain.execute(*refuse)
        with pytest.raises(redis.RedisError, match="write"):
            plain.send([("INCR", "k")])
        plain.post([("INCR", "k")])
        with pytest.raises(redis.RedisError, match="write"):
            plain.send([])
        assert plain.unconfirmed == [("INCR", "k")]
        plain.close()
        plain.unconfirmed = []
        plain.execute(*allow)
    assert plain.execute("GET", "k") == b"1"
    assert "refused" not in caplog.text


async def test_a_connection_of_a_gateway_ends_when_its_server_takes_no_writes(node):
    lost = asyncio.Event()
    opened = await PipelinedConnection.open(_url(node), lambda _: lost.set())
    with node.client() as client:
        client.replicaof("127.0.0.1", "1")
    with pytest.raises(hiredis.ReplyError, match="READONLY"):
        await opened.execute("SET", "k", 1)
    await asyncio.wait_for(lost.wait(), 60)


async def test_a_gateway_leaves_a_server_that_takes_no_writes_and_fails_its_requests(node):
    # Given a gateway's connection to a server that is made a replica
    broker = Broker(_url(node))
    await broker.start()
    with node.client() as client:
        client.replicaof("127.0.0.1", "1")
        # When a request is queued
        with pytest.raises(ServiceUnavailable):
            await asyncio.wait_for(broker.predict(b"lane", b"1", EntryFields(b"x")), 60)
        # Then it fails at once, and so do others until the server takes writes
        with pytest.raises(ServiceUnavailable):
            await broker.predict(b"lane", b"2", EntryFields(b"x"))
        client.replicaof("NO", "ONE")
        await _until_queued(broker)
        async with asyncio.timeout(60):
            while not client.xlen("lane"):
                await asyncio.sleep(0.01)
        assert client.xlen("lane") == 1
    await broker.stop()


async def _until_queued(broker):
    for number in range(100):
        try:
            await asyncio.wait_for(broker.predict(b"lane", b"%d" % (3 + number), EntryFields(b"x")), 0.2)
        except ServiceUnavailable:
            await asyncio.sleep(0.1)
        except TimeoutError:
            return
    pytest.fail("the gateway did not connect again")


@pytest.fixture
def tls_watched(tmp_path, node):
    """A URL of a sentinel whose primary understands TLS, too."""
    pair = certificates.make(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        threading.Thread(target=_accept, args=(listener, context, node.port), daemon=True).start()
        asked = failover.start_sentinel(tmp_path, port)
        url = (
            f"rediss+sentinel://:{PASSWORD}@127.0.0.1:{asked.port}/{SERVICE}/0"
            f"?ssl_ca_certs={pair.certificate}&sentinel_password={SENTINEL_PASSWORD}"
        )
        wait_for(lambda: _knows(url), what="the sentinel")
        yield url
        asked.kill()
        listener.shutdown(socket.SHUT_RDWR)


def _knows(url):
    try:
        return sentinels.primary_url(url)
    except redis.RedisError:
        return ""


def _accept(listener, context, port):
    while True:
        try:
            plain, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_serve, args=(plain, context, port), daemon=True).start()


def _serve(plain, context, port):
    speaks_tls = plain.recv(1, socket.MSG_PEEK) == b"\x16"  # the sentinel itself does not
    try:
        client = context.wrap_socket(plain, server_side=True) if speaks_tls else plain
    except OSError:
        return
    with client, socket.create_connection(("127.0.0.1", port)) as target:
        back = threading.Thread(target=_copy, args=(target, client), daemon=True)
        back.start()
        _copy(client, target)


async def test_every_kind_of_connection_speaks_tls_to_the_primary(tls_watched):
    clients.check(tls_watched)
    replicas, opened = Connection(tls_watched), await PipelinedConnection.open(tls_watched, lambda _: None)
    other = clients.asynchronous_client(tls_watched)
    answers = [replicas.execute("PING"), await opened.execute("PING"), await other.ping()]
    assert answers == [b"PONG", b"PONG", True]
    await other.aclose()
    replicas.close()
    opened.close()
    untrusted = tls_watched.replace("ssl_ca_certs", "ssl_ca_path")
    with pytest.raises(RedisUnavailable, match=r"(?i)certificate"):
        clients.check(untrusted)
    with pytest.raises(RedisUnavailable, match=r"(?i)certificate"):
        await PipelinedConnection.open(untrusted, lambda _: None)


def test_celery_finds_the_primary_over_tls(tls_watched):
    settings = broker_settings(tls_watched, keys.CELERY)
    with kombu.Connection(
        settings["broker_url"],
        ssl=settings["broker_use_ssl"],
        transport_options=settings["broker_transport_options"],
    ) as celery:
        assert celery.default_channel.client.ping()
        made = celery.default_channel.client.connection_pool.make_connection()
        assert isinstance(made, redis.SSLConnection)
    assert SENTINEL_PASSWORD not in str(settings)
