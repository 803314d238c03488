"""Redis Sentinel: which URLs are understood, and that each kind of connection finds the primary."""

import socket
import time

import pytest
from failover import PASSWORD, SENTINEL_PASSWORD, SERVICE, watched_redis
from ports import free_port

from marq.connections import clients, sentinels, urls
from marq.connections.blocking import Connection
from marq.connections.pipelined import PipelinedConnection
from marq.errors import RedisUnavailable


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    with watched_redis(tmp_path_factory.mktemp("watched")) as watched:
        yield watched


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
    found = sentinels.of(url)
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
        clients.check(url)
    with pytest.raises(RedisUnavailable, match=told) as also:
        await PipelinedConnection.open(url, lambda _: None)
    assert "secret" not in f"{caught.value} {also.value}"


def test_no_password_of_such_a_url_is_logged():
    url = "redis+sentinel://user:secret@s1:1,s2:2/main/0?sentinel_username=me&sentinel_password=secret"
    logged = "redis+sentinel://user:***@s1:1,s2:2/main/0?sentinel_username=me&sentinel_password=***"
    assert urls.without_password(url) == logged


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
@pytest.mark.parametrize("sign", "/?#")
def test_a_password_with_a_sign_that_ends_a_host_is_not_logged_either(scheme, sign):
    shown = urls.without_password(f"{scheme}://:sec{sign}ret@host:1/main")
    assert shown == f"{scheme}://***@host:1/main"


async def test_every_kind_of_connection_goes_to_the_primary(watched):
    clients.check(watched.url)
    replicas, opened = Connection(watched.url), await PipelinedConnection.open(watched.url, lambda _: None)
    with clients.client(watched.url) as client:
        ports = [replicas.execute("CONFIG", "GET", "port")[1], client.config_get("port")["port"].encode()]
    ports.append((await opened.execute("CONFIG", "GET", "port"))[1])
    other = clients.asynchronous_client(watched.url)
    ports.append((await other.config_get("port"))["port"].encode())
    await other.aclose()
    assert set(ports) == {str(watched.primary.port).encode()}
    replicas.close()
    opened.close()


def test_a_database_is_chosen(watched):
    with clients.client(watched.url.replace("/0?", "/3?")) as third, watched.primary.client() as plain:
        third.set("of-three", 1)
        assert not plain.exists("of-three")
        plain.select(3)
        assert plain.exists("of-three")


def test_a_sentinel_that_is_gone_is_passed_over(watched):
    clients.check(watched.url.replace("@", f"@127.0.0.1:{free_port()},"))


def test_one_that_does_not_answer_costs_a_second_once(watched):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = watched.url.replace("@", f"@127.0.0.1:{silent.getsockname()[1]},")
        began = time.monotonic()
        clients.check(url)
        assert 1 <= time.monotonic() - began < 10
        silent.accept()[0].close()
        clients.check(url)
        silent.settimeout(0)
        with pytest.raises(BlockingIOError):  # it has not been asked again
            silent.accept()


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
        clients.check(watched.url.replace(right, wrong))
    assert not any(password in str(caught.value) for password in (PASSWORD, SENTINEL_PASSWORD, "wrong"))


def test_a_server_that_is_no_sentinel_is_told_so_at_once(watched):
    began = time.monotonic()
    with pytest.raises(RedisUnavailable, match=r"(?i)unknown command.*sentinel"):
        clients.check(f"redis+sentinel://127.0.0.1:{watched.primary.port}/main?sentinel_password={PASSWORD}")
    assert time.monotonic() - began < 30
