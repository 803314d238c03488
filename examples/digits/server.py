"""The server of the demo: `marq start` as anyone would start it, in a directory of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import redis

from marq.connections import clients
from marq.errors import MarqError
from marq.host import server_file
from marq.registry.models import Registry
from marq.registry.reports import ReplicaReport

MARQ = Path(sys.executable).with_name("marq")
START_TIMEOUT_S, STOP_TIMEOUT_S, REPORT_TIMEOUT_S = 60.0, 60.0, 10.0
POLL_S = 0.05


class ServerFailed(Exception):
    """Raised when the server does not do what the demo needs; carries the end of its log."""


class Server:
    """One server with one model; `directory` holds its model store, settings, state and log."""

    def __init__(self, directory: Path, model: str) -> None:
        self._directory, self._model = directory, model
        self.state_dir, self.store = directory / "state", directory / "store"
        addresses = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        self.inference, self.management, self.metrics = addresses
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: set[psutil.Process] = set()

    @property
    def redis_url(self) -> str:
        """Where its producers write; known once the server has started."""
        return server_file.find(self.state_dir).redis_url

    def start(self) -> None:
        """Starts it; `wait_until_ready` returns when it serves."""
        config = self._directory / "config.properties"
        config.write_text(
            f"inference_address={self.inference}\n"
            f"management_address={self.management}\n"
            f"metrics_address={self.metrics}\n"
            "job_queue_size=20000\n"
            "enable_grpc=false\n"
        )
        with (self._directory / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    MARQ, "start", "--model-store", self.store, "--models", f"{self._model}.mar",
                    "--ts-config", config, "--state-dir", self.state_dir, "--disable-token-auth",
                ],
                env=_clean_environment(self.state_dir), cwd=self._directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is the demo's own; it stops the server in `stop`
            )  # fmt: skip

    def wait_until_ready(self, replicas: int) -> None:
        """Returns when the gateway answers and so many replicas are ready. Raises ServerFailed."""

        def ready() -> bool:
            answers = httpx.get(f"{self.inference}/ping").status_code == httpx.codes.OK
            return answers and len(self.replica_pids()) >= replicas

        self._wait_for(ready, START_TIMEOUT_S, f"{replicas} ready replicas")

    def replica_pids(self) -> list[int]:
        """The processes that are ready to run the handler."""
        return [replica.pid for replica in self._replicas() if replica.is_ready]

    def counts(self, requests: int) -> tuple[int, int]:
        """(requests, batches) run so far, as soon as the replicas' reports say at least `requests`."""

        def reported() -> tuple[int, int] | None:
            replicas = self._replicas()
            now = sum(r.requests for r in replicas), sum(r.batches for r in replicas)
            return now if now[0] >= requests else None

        return self._wait_for(reported, REPORT_TIMEOUT_S, f"a report of {requests} requests")

    def stop(self) -> tuple[int, list[str]]:
        """Ctrl-C; returns the exit code and the processes that are left, which are then killed."""
        if self._process is None:
            return 0, []
        self._seen |= self._processes()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        left = [process for process in self._seen | self._processes() if _is_alive(process)]
        return code, [_end(process) for process in left]

    def log_tail(self, lines: int = 20) -> str:
        """The end of what the server printed."""
        return "\n".join((self._directory / "server.log").read_text(errors="replace").splitlines()[-lines:])

    def _replicas(self) -> list[ReplicaReport]:
        with clients.client(self.redis_url) as client:
            registry = Registry(client)
            return registry.replicas(registry.models().get(self._model))

    def _processes(self) -> set[psutil.Process]:
        """All that belongs to this server: by its parents, and by the state directory in its environment."""
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(server_file.STATE_VARIABLE) == str(self.state_dir):
                    found |= {process, *process.children(recursive=True)}
        return found

    def _wait_for(self, condition: Callable, timeout_s: float, what: str):
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise ServerFailed(f"The server has ended. Its last lines:\n{self.log_tail()}")
            with contextlib.suppress(httpx.TransportError, MarqError, redis.RedisError, json.JSONDecodeError):
                if value := condition():
                    return value
            time.sleep(POLL_S)
        raise ServerFailed(f"Waited {timeout_s:g} s in vain for {what}. Last lines:\n{self.log_tail()}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _clean_environment(state_dir: Path) -> dict[str, str]:
    """Without settings of other servers, so that the demo touches none of them."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("MARQ_") and name != "TS_CONFIG_FILE"
    }
    return {**kept, server_file.STATE_VARIABLE: str(state_dir)}


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end(process: psutil.Process) -> str:
    """Kills a process; returns what it was."""
    with contextlib.suppress(psutil.Error):
        text = f"{process.pid} {' '.join(process.cmdline())}"
        process.kill()
        return text
    return str(process.pid)
