"""Redis over TLS: `rediss://` with the options of redis-py, for all three kinds of connections."""

from urllib.parse import unquote, urlsplit

import certificates
import pytest
from tls_proxy import tls_proxy

from marq.connections import blocking, clients
from marq.connections.pipelined import PipelinedConnection
from marq.errors import RedisUnavailable


@pytest.fixture
def pair(tmp_path):
    return certificates.make(tmp_path)


@pytest.fixture
def rediss_url(redis_url, pair):
    parts = urlsplit(redis_url)
    with tls_proxy(unquote(parts.path), pair) as port:
        yield f"rediss://:{parts.password}@127.0.0.1:{port}/0"


GOOD = [
    "ssl_ca_certs={certificate}",
    "ssl_cert_reqs=none",
    "ssl_ca_certs={certificate}&ssl_check_hostname=true",
]


@pytest.mark.parametrize("options", GOOD)
async def test_the_pipelined_connection_of_gateways_understands_the_options(rediss_url, pair, options):
    url = f"{rediss_url}?{options.format(certificate=pair.certificate)}"
    opened = await PipelinedConnection.open(url, lambda _: None)
    assert await opened.execute("PING") == b"PONG"
    opened.close()


@pytest.mark.parametrize("options", GOOD)
def test_the_connections_of_replicas_and_of_the_rest_understand_them(rediss_url, pair, options):
    url = f"{rediss_url}?{options.format(certificate=pair.certificate)}"
    clients.check(url)
    replicas = blocking.Connection(url)
    assert replicas.execute("PING") == b"PONG"
    replicas.close()


@pytest.mark.parametrize(
    "options", ["", "?ssl_cert_reqs=required", "?ssl_cert_reqs=nonsense", "?ssl_ca_certs=/no"]
)
async def test_a_certificate_that_is_not_trusted_is_refused_without_telling_the_password(rediss_url, options):
    url = rediss_url + options
    for check in (lambda: PipelinedConnection.open(url, lambda _: None), None):
        with pytest.raises(RedisUnavailable, match="cannot be used") as caught:
            if check:
                await check()
            else:
                clients.check(url)
        assert urlsplit(url).password not in str(caught.value)


async def test_a_name_that_is_not_the_certificates_is_refused_unless_told_otherwise(rediss_url, pair):
    url = f"{rediss_url.replace('127.0.0.1', '127.0.0.2')}?ssl_ca_certs={pair.certificate}"
    with pytest.raises(RedisUnavailable):
        await PipelinedConnection.open(url, lambda _: None)
