"""`marq start`: sets up one host's whole server, then becomes the watcher of its processes.

Order of a stop: gateways finish what is in flight, the node drains its pools, Redis ends last.
"""

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from marq import connection, listen, locate
from marq.embedded import EmbeddedServer
from marq.errors import MarqError
from marq.process import PARENT_VARIABLE
from marq.registry import Registry
from marq.settings import Settings
from marq.watcher import Plan, Program

GATEWAY_STOP_S, NODE_STOP_S, REDIS_STOP_S = 15.0, 35.0, 20.0
ADDRESSES = {"inference": "inference_address", "management": "management_address"}
Announce = Callable[[str], None]


class AlreadyRunning(MarqError):
    """Raised when a server uses this state directory already."""


class Supervisor:
    """Sets up a server. `announce` gets lines for the user."""

    def __init__(self, settings: Settings, announce: Announce) -> None:
        self._settings, self._announce = settings, announce
        self._embedded: EmbeddedServer | None = None

    def run(self) -> NoReturn:
        """Never returns: this process becomes the watcher, and ends with its exit code.

        Raises AlreadyRunning, PortTaken, RedisUnavailable or SettingsError; then nothing is left running.
        """
        state_dir = self._settings.state_dir
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(state_dir), contextlib.ExitStack() as stack:
            sockets = {
                plane: stack.enter_context(listen.listen(getattr(self._settings, name), name))
                for plane, name in ADDRESSES.items()
            }
            try:
                self._set_up()
                self._plan(sockets).execute()
            except BaseException:
                if self._embedded:
                    self._embedded.stop()
                locate.remove(state_dir)
                raise

    def _set_up(self) -> None:
        self._connect()
        client = connection.client(self._settings.redis_url)
        self._create_tokens(client)
        self._load_models(Registry(client))
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

    def _plan(self, sockets: dict[str, Any]) -> Plan:
        python = [sys.executable, "-P", "-m"]
        environment = {**self._settings.environment(), PARENT_VARIABLE: str(os.getpid())}
        descriptors = [sock.fileno() for sock in sockets.values()]
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        gateway_environment = {**environment, **listen.environment(sockets)}
        gateways = [
            Program(
                f"gateway {n}",
                [*python, "gateway"],
                GATEWAY_STOP_S,
                {**gateway_environment, "MARQ_GATEWAY": str(n)},
                descriptors,
            )
            for n in range(self._settings.gateway_workers)
        ]
        node = Program("node", [*python, "workers.node"], NODE_STOP_S, environment)
        stages = [gateways, [node]]
        if self._embedded:
            stages.append([self._embedded.program("Redis server", REDIS_STOP_S)])
        return Plan(stages, str(self._settings.state_dir / locate.FILE_NAME))


@contextlib.contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    """Holds the state directory, also after `exec`. Raises AlreadyRunning."""
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
        os.set_inheritable(file.fileno(), True)
        yield
