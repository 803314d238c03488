"""`marq start`: one host's whole server: the embedded Redis, the gateways and the node.

Order of a stop: gateways finish what is in flight, the node drains its pools, Redis ends last.
"""

import contextlib
import fcntl
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from marq import connection, listen, locate
from marq.embedded import EmbeddedServer
from marq.errors import MarqError
from marq.process import child_environment
from marq.registry import Registry
from marq.settings import Settings

log = logging.getLogger(__name__)

TICK_S = 0.1
RESTART_DELAY_S = 1.0
GATEWAY_STOP_S, NODE_STOP_S = 15.0, 35.0
ADDRESSES = {"inference": "inference_address", "management": "management_address"}
Announce = Callable[[str], None]


class AlreadyRunning(MarqError):
    """Raised when a server uses this state directory already."""


class Child:
    """One supervised process; started again when it ends by itself."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], fds: list[int]) -> None:
        self.name = name
        self._command, self._environment, self._fds = command, environment, fds
        self.start()

    def start(self) -> None:
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            self._command, env=self._environment, pass_fds=self._fds, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def keep_alive(self) -> None:
        code = self._process.poll()
        if code is not None and time.monotonic() - self.started > RESTART_DELAY_S:
            log.error("the %s (pid %d) ended with %d; starting it again", self.name, self._process.pid, code)
            self.start()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.error("the %s did not end within %g s; killing it", self.name, timeout_s)
            self._process.kill()
            self._process.wait()


class Supervisor:
    """Runs a server until SIGINT or SIGTERM. `announce` gets lines for the user."""

    def __init__(self, settings: Settings, announce: Announce) -> None:
        self._settings, self._announce = settings, announce
        self._embedded: EmbeddedServer | None = None
        self._gateways: list[Child] = []
        self._node: Child | None = None
        self._stopping = False

    def run(self) -> int:
        """Returns the exit code after a stop.

        Raises AlreadyRunning, PortTaken, RedisUnavailable or SettingsError; then nothing is left running.
        """
        state_dir = self._settings.state_dir
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(state_dir), contextlib.ExitStack() as stack:
            sockets = {
                plane: stack.enter_context(listen.listen(getattr(self._settings, name), name))
                for plane, name in ADDRESSES.items()
            }
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self._on_signal)
            try:
                self._start(sockets)
                self._watch()
            finally:
                self._stop()
        return 0

    def _start(self, sockets: dict[str, Any]) -> None:
        self._connect()
        client = connection.client(self._settings.redis_url)
        self._create_tokens(client)
        self._load_models(Registry(client))
        environment = child_environment(self._settings.environment(), listen.environment(sockets))
        command = [sys.executable, "-P", "-m"]
        descriptors = [sock.fileno() for sock in sockets.values()]
        self._gateways = [
            Child(f"gateway {number}", [*command, "gateway"], environment, descriptors)
            for number in range(self._settings.gateway_workers)
        ]
        self._node = Child("node", [*command, "workers.node"], environment, [])
        self._announce(f"Inference API   {self._settings.inference_address}")
        self._announce(f"Management API  {self._settings.management_address}")

    def _connect(self) -> None:
        if not self._settings.redis_url:
            self._embedded = EmbeddedServer(self._settings.state_dir / "redis")
            self._embedded.start()
            self._settings = self._settings.model_copy(update={"redis_url": self._embedded.url})
        connection.check(self._settings.redis_url)
        self._announce(f"Redis           {connection.without_password(self._settings.redis_url)}")

    def _create_tokens(self, client: Any) -> None:
        """Tokens are new at each start; the server file lets this user's commands find them."""
        from gateway import tokens

        made: dict[str, str] = {}
        if not self._settings.disable_token_auth:
            made = tokens.create(client, self._settings.token_expiration_min)
            tokens.write_key_file(Path.cwd(), client)
            self._announce(f"Tokens          {Path.cwd() / tokens.KEY_FILE}")
        server = locate.Server(
            pid=os.getpid(),
            redis_url=self._settings.redis_url,
            inference_address=self._settings.inference_address,
            management_address=self._settings.management_address,
            inference_token=made.get(tokens.INFERENCE, ""),
            management_token=made.get(tokens.MANAGEMENT, ""),
        )
        locate.write(self._settings.state_dir, server)

    def _load_models(self, registry: Registry) -> None:
        from gateway.startup import load_startup_models

        for item, error in load_startup_models(self._settings, registry):
            self._announce(
                f"Model           {item}" if error is None else f"Failed to load model: {item}: {error}"
            )

    def _watch(self) -> None:
        while not self._stopping:
            time.sleep(TICK_S)
            if self._embedded and self._embedded.has_ended:
                log.error("the embedded Redis server ended; starting it again")
                self._embedded.start()
            for child in self._children():
                child.keep_alive()

    def _children(self) -> list[Child]:
        return [*self._gateways, *([self._node] if self._node else [])]

    def _on_signal(self, *_: Any) -> None:
        if not self._stopping:
            self._announce("Stopping: requests in flight are finished, queued ones are kept.")
        self._stopping = True

    def _stop(self) -> None:
        for gateway in self._gateways:
            gateway.stop()
        for gateway in self._gateways:
            gateway.wait(GATEWAY_STOP_S)
        if self._node:
            self._node.stop()
            self._node.wait(NODE_STOP_S)
        if self._embedded:
            self._embedded.stop()
        locate.remove(self._settings.state_dir)


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Holds the state directory. Raises AlreadyRunning."""
    with (state_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise AlreadyRunning(
                f"marq is already running with the state directory {state_dir} (pid {file.read().strip()}). "
                "Stop it with `marq stop`, or name another directory with --state-dir."
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
