"""Redis Sentinel: which URLs are understood, and that each kind of connection finds the primary."""

import asyncio
import signal
import socket
import ssl
import threading
import time

import certificates
import failover
import kombu
import pytest
import redis
from failover import PASSWORD, SENTINEL_PASSWORD, SERVICE, watched_redis
from support import free_port, wait_for
from tls_proxy import _copy

from marq import connection, sentinel
from marq.broker import Broker
from marq.connection import Connection
from marq.errors import RedisUnavailable, ServiceUnavailable
from marq.pipelined import PipelinedConnection
from workers.app import broker_settings


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with watched_redis(tmp_path_factory.mktemp("watched")) as watched:
        yield watched


@pytest.fixture
def breakable(tmp_path):
    with watched_redis(tmp_path) as watched:
        yield watched


@pytest.fixture
def node(tmp_path):
    """A server that nobody watches."""
    node = failover.start_node(tmp_path)
    with node.client() as client:
        wait_for(lambda: _answers(client), 20, "the server")
    yield node
    node.kill()


def _answers(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


def _url(node):
    return f"redis://:{PASSWORD}@127.0.0.1:{node.port}/0"


@pytest.mark.parametrize(
    ("url", "addresses", "service", "primary"),
    [
        ("redis+sentinel://s1/main", [("s1", 26379)], "main", "redis://10.0.0.1:6379/0"),
        (
            "redis+sentinel://user:pass%2Fword@s1:1,s2,s3:3/main/4",
            [("s1", 1), ("s2", 26379), ("s3", 3)],
            "main",
            "redis://user:pass%2Fword@10.0.0.1:6379/4",
        ),
        (
            "rediss+sentinel://:p@[::1]:5/my%20main?ssl_ca_certs=/ca.pem&sentinel_username=u&sentinel_password=x",
            [("::1", 5)],
            "my main",
            "rediss://:p@10.0.0.1:6379/0?ssl_ca_certs=%2Fca.pem",
        ),
    ],
)
def test_a_url_names_sentinels_a_service_and_how_to_speak_to_its_servers(url, addresses, service, primary):
    found = sentinel.of(url)
    assert list(found.addresses) == addresses
    assert found.service == service
    assert found.plain_url(("10.0.0.1", 6379)) == primary


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("redis+sentinel://:secret@s1", "which service"),
        ("redis+sentinel://:secret@s1/", "which service"),
        ("redis+sentinel://:secret@s1/main/two", "is a number"),
        ("redis+sentinel://:secret@s1/main/0/more", "is a number"),
        ("redis+sentinel://:secret@/main", "one of the sentinels"),
        ("redis+sentinel://:secret@s1,,s2/main", "one of the sentinels"),
        ("redis+sentinel://:secret@s1:port/main", "one of the sentinels"),
        ("redis+sentinel://:secret@s1:70000/main", "one of the sentinels"),
        ("redis+sentinel://:secret/word@s1/main", "one of the sentinels"),
        ("redis+sentinel://s1/main?sentinel_pasword=secret", "unknown option sentinel_pasword; known are"),
        ("redis+sentinel://:secret@s1/main?ssl_ca_certs=x", r"need rediss\+sentinel://"),
        ("sentinel://:secret@s1:26379/main", r"redis\+sentinel://\[USER"),
        ("redis+cluster://:secret@h:6379", "Cluster is not supported"),
        ("rediss+cluster://:secret@h:6379", "Cluster is not supported"),
    ],
)
async def test_a_bad_url_is_told_with_what_would_be_right_and_without_secrets(url, told):
    with pytest.raises(RedisUnavailable, match=told) as caught:
        connection.check(url)
    with pytest.raises(RedisUnavailable, match=told) as also:
        await PipelinedConnection.open(url, lambda _: None)
    assert "secret" not in f"{caught.value} {also.value}"


def test_no_password_of_such_a_url_is_logged():
    url = "redis+sentinel://user:secret@s1:1,s2:2/main/0?sentinel_username=me&sentinel_password=secret"
    logged = "redis+sentinel://user:***@s1:1,s2:2/main/0?sentinel_username=me&sentinel_password=***"
    assert connection.without_password(url) == logged


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
@pytest.mark.parametrize("sign", "/?#")
def test_a_password_with_a_sign_that_ends_a_host_is_not_logged_either(scheme, sign):
    shown = connection.without_password(f"{scheme}://:sec{sign}ret@host:1/main")
    assert shown == f"{scheme}://***@host:1/main"


async def test_every_kind_of_connection_goes_to_the_primary(watched):
    connection.check(watched.url)
    replicas, opened = Connection(watched.url), await PipelinedConnection.open(watched.url, lambda _: None)
    with connection.client(watched.url) as client:
        ports = [replicas.execute("CONFIG", "GET", "port")[1], client.config_get("port")["port"].encode()]
    ports.append((await opened.execute("CONFIG", "GET", "port"))[1])
    other = connection.asynchronous_client(watched.url)
    ports.append((await other.config_get("port"))["port"].encode())
    await other.aclose()
    assert set(ports) == {str(watched.primary.port).encode()}
    replicas.close()
    opened.close()


def test_a_database_is_chosen(watched):
    with connection.client(watched.url.replace("/0?", "/3?")) as third, watched.primary.client() as plain:
        third.set("of-three", 1)
        assert not plain.exists("of-three")
        plain.select(3)
        assert plain.exists("of-three")


def test_a_sentinel_that_is_gone_is_passed_over(watched):
    connection.check(watched.url.replace("@", f"@127.0.0.1:{free_port()},"))


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        (f"/{SERVICE}/", "/other/", "'other'.*No such master"),
        (f"sentinel_password={SENTINEL_PASSWORD}", "sentinel_password=wrong", "no sentinel names.*invalid"),
        (f":{PASSWORD}@", ":wrong@", "cannot be used: invalid username-password pair"),
    ],
)
def test_what_the_sentinels_or_the_primary_refuse_is_told_without_passwords(watched, right, wrong, told):
    with pytest.raises(RedisUnavailable, match=told) as caught:
        connection.check(watched.url.replace(right, wrong))
    assert not any(password in str(caught.value) for password in (PASSWORD, SENTINEL_PASSWORD, "wrong"))


def test_a_server_that_is_no_sentinel_is_told_so_at_once(node):
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match=r"(?i)unknown command.*sentinel"):
        connection.check(f"redis+sentinel://127.0.0.1:{node.port}/main?sentinel_password={PASSWORD}")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("failure", ["killed", "stopped", "switched by hand"])
async def test_every_kind_of_connection_follows_a_failover(breakable, failure):
    # Given connections to the primary, and something written
    lost = asyncio.Event()
    replicas, client = Connection(breakable.url), connection.client(breakable.url)
    opened = await PipelinedConnection.open(breakable.url, lambda _: lost.set())
    replicas.execute("SET", "k", "v")
    assert client.get("k") == await opened.execute("GET", "k") == b"v"
    breakable.wait_until_replicated()
    # When the sentinels put the replica in its place
    if failure == "switched by hand":
        wait_for(lambda: _switches(breakable.sentinels[0]), 20, "the sentinel to know the replica well")
    else:
        breakable.primary.process.send_signal(signal.SIGKILL if failure == "killed" else signal.SIGSTOP)
    await asyncio.to_thread(breakable.wait_until_promoted)
    # Then a gateway's connection ends by itself, and the new ones of all are to the new primary
    await asyncio.wait_for(lost.wait(), 10)
    for execute in (replicas.execute, client.execute_command):
        wait_for(lambda execute=execute: _writes(execute), 20, "a write")
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


async def test_a_gateway_leaves_a_server_that_takes_no_writes_and_fails_its_requests(node):
    # Given a gateway's connection to a server that is made a replica
    broker = Broker(_url(node))
    await broker.start()
    with node.client() as client:
        client.replicaof("127.0.0.1", "1")
        # When a request is queued
        with pytest.raises(ServiceUnavailable):
            await asyncio.wait_for(broker.predict(b"lane", b"1", (b"body", b"x")), 5)
        # Then it fails at once, and so do others until the server takes writes
        with pytest.raises(ServiceUnavailable):
            await broker.predict(b"lane", b"2", (b"body", b"x"))
        client.replicaof("NO", "ONE")
        await _until_queued(broker)
        assert client.xlen("lane") == 1
    await broker.stop()


async def _until_queued(broker):
    for number in range(100):
        try:
            await asyncio.wait_for(broker.predict(b"lane", b"%d" % (3 + number), (b"body", b"x")), 0.2)
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
        wait_for(lambda: _knows(url), 20, "the sentinel")
        yield url
        asked.kill()
        listener.shutdown(socket.SHUT_RDWR)


def _knows(url):
    try:
        return sentinel.primary_url(url)
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
    connection.check(tls_watched)
    replicas, opened = Connection(tls_watched), await PipelinedConnection.open(tls_watched, lambda _: None)
    other = connection.asynchronous_client(tls_watched)
    answers = [replicas.execute("PING"), await opened.execute("PING"), await other.ping()]
    assert answers == [b"PONG", b"PONG", True]
    await other.aclose()
    replicas.close()
    opened.close()
    untrusted = tls_watched.replace("ssl_ca_certs", "ssl_ca_path")
    with pytest.raises(RedisUnavailable, match=r"(?i)certificate"):
        connection.check(untrusted)
    with pytest.raises(RedisUnavailable, match=r"(?i)certificate"):
        await PipelinedConnection.open(untrusted, lambda _: None)


def test_celery_finds_the_primary_over_tls(tls_watched):
    settings = broker_settings(tls_watched)
    with kombu.Connection(
        settings["broker_url"],
        ssl=settings["broker_use_ssl"],
        transport_options=settings["broker_transport_options"],
    ) as celery:
        assert celery.default_channel.client.ping()
        made = celery.default_channel.client.connection_pool.make_connection()
        assert isinstance(made, redis.SSLConnection)
    assert SENTINEL_PASSWORD not in str(settings)
