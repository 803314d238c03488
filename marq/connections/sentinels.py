"""Redis Sentinel: URLs that name the sentinels of a service instead of its Redis server.

Each new connection asks the sentinels for the primary, so that marq outlives a failover.
"""

import functools
from typing import TypedDict
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.credentials import UsernamePasswordCredentialProvider
from redis.retry import Retry

from marq.connections.commands import Reply
from marq.connections.urls import parse

SCHEMES = {"redis+sentinel": "redis", "rediss+sentinel": "rediss"}  # -> scheme for the data nodes
DEFAULT_PORT = 26379
TIMEOUT_S = 1.0  # for each sentinel: a connection must be able to try several
LOGIN_OPTIONS = ("sentinel_username", "sentinel_password")
TLS_OPTIONS = (
    "ssl_ca_certs", "ssl_ca_path", "ssl_cert_reqs", "ssl_check_hostname",
    "ssl_certfile", "ssl_keyfile", "ssl_password",
)  # fmt: skip
FORM = "redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...]/SERVICE[/DATABASE]"

Address = tuple[str, int]


def is_url(url: str) -> bool:
    """Whether it is a URL of sentinels. Raises ValueError for a scheme that marq does not support."""
    scheme = url.partition("://")[0]
    if "cluster" in scheme:
        raise ValueError(
            "Redis Cluster is not supported: name one server, as in redis://HOST:6379/0, "
            f"or the sentinels that watch it, as in {FORM}"
        )
    if "sentinel" in scheme and scheme not in SCHEMES:
        raise ValueError(f"{scheme}:// is not understood. URLs of sentinels: {FORM}, or rediss+sentinel://")
    return scheme in SCHEMES


class Options(TypedDict):
    """redis-py's options of a connection to a sentinel."""

    credential_provider: UsernamePasswordCredentialProvider | None
    socket_timeout: float
    socket_connect_timeout: float
    retry: Retry


class PrimaryState(TypedDict):
    """How a sentinel describes a primary, as far as marq reads it."""

    ip: str
    port: int
    is_master: bool
    is_sdown: bool  # down for this sentinel
    is_odown: bool  # down for most sentinels


class Sentinels:
    """The sentinels of one service. Raises ValueError, without secrets, for a malformed URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        login, at, hosts = parts.netloc.rpartition("@")
        self.addresses = tuple(map(_address, hosts.split(",")))
        service, _, database = parts.path.removeprefix("/").partition("/")
        if not service:
            raise ValueError(f"it does not say which service the sentinels are to be asked for: {FORM}")
        if database and not database.isdecimal():
            raise ValueError(f"the database, after the service, is a number: {FORM}")
        self.service = unquote(service)
        self.database = int(database or 0)
        self._scheme = SCHEMES[parts.scheme]
        self.login = login + at  # for the data nodes, as written in the URL
        options = _options(parts.query, TLS_OPTIONS if self.uses_tls else ())
        user, password = (options.pop(name, "") for name in LOGIN_OPTIONS)
        self._query = urlencode(options)
        # A credential provider, because dictionaries of options are shown in messages of Celery and redis-py.
        provider = UsernamePasswordCredentialProvider(user or None, password) if password else None
        self.options: Options = {
            "credential_provider": provider,
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        self.known: Address | None = None  # the last known primary
        self._clients = tuple(
            (netloc(address), redis.Redis(*address, protocol=2, **self.options)) for address in self.addresses
        )

    def plain_url(self, address: Address) -> str:
        """The URL of a data node."""
        query = f"?{self._query}" if self._query else ""
        return f"{self._scheme}://{self.login}{netloc(address)}/{self.database}{query}"

    def connection_options(self) -> dict[str, object]:
        """redis-py's options for a connection to a data node, without its address."""
        options = parse(self.plain_url(("", 0)))
        return {name: value for name, value in options.items() if name != "connection_class"}

    @property
    def uses_tls(self) -> bool:
        """Whether connections to the data nodes use TLS; those to sentinels never do."""
        return self._scheme == "rediss"

    def tls_options(self) -> dict[str, object]:
        """The TLS options among `connection_options`; empty without TLS."""
        if not self.uses_tls:
            return {}
        given = {name: value for name, value in self.connection_options().items() if name in TLS_OPTIONS}
        return {"ssl_cert_reqs": "required", **given}

    def primary(self) -> Address:
        """The address of the primary, from the first sentinel that knows it. Raises redis.ConnectionError."""
        problems = []
        clients = self._clients
        for tried, (name, client) in enumerate(clients):
            try:
                state: Reply = client.sentinel_master(self.service)
                self.known = found = _primary(state)
            except redis.RedisError as error:
                problems.append(f"{name}: {error}")
            else:
                # The next call starts with this sentinel: one that has vanished costs time.
                self._clients = clients[tried:] + clients[:tried]
                return found
        raise redis.ConnectionError(
            f"no sentinel names a primary of the service {self.service!r} ({'; '.join(problems)})"
        )


@functools.cache
def of(url: str) -> Sentinels:
    """The sentinels that a URL names, with the connections to them. Raises ValueError."""
    return Sentinels(url)


def primary_url(url: str) -> str:
    """The plain URL of the current primary. Raises redis.ConnectionError or ValueError."""
    sentinels = of(url)
    return sentinels.plain_url(sentinels.primary())


def netloc(address: Address) -> str:
    """Host and port in the form of URLs."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or port == 0:  # the text is not shown: a password with a "/" looks like a host
        raise ValueError(f"one of the sentinels has no host, or a port that is none: {FORM}")
    return host, port or DEFAULT_PORT


def _options(query: str, more: tuple[str, ...]) -> dict[str, str]:
    """The URL's options. Raises ValueError for an unknown option."""
    options, known = dict(parse_qsl(query)), (*LOGIN_OPTIONS, *more)
    if unknown := options.keys() - set(known):
        hint = "" if more else "; those of TLS need rediss+sentinel://"
        raise ValueError(f"unknown option {sorted(unknown)[0]}; known are {', '.join(known)}{hint}")
    return options


def _primary(state: PrimaryState) -> Address:
    """Reads a sentinel's answer. Raises redis.ConnectionError if the primary is not usable."""
    address: Address = state["ip"], state["port"]
    if state["is_sdown"] or state["is_odown"] or not state["is_master"]:
        raise redis.ConnectionError(f"{netloc(address)} is down")
    return address
