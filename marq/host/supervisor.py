"""`marq start`: sets up one host's whole server, then becomes the watcher of its processes.

`marq gateway` does the same without a node, and without touching the tokens and models of other gateways.

Order of a stop: gateways finish the requests in flight, the node drains its pools, the Celery bridge writes
the last results, Redis ends last.
"""

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from marq import keys, logs
from marq.connections import clients, urls
from marq.connections.commands import RedisClient
from marq.host import certificates, greeting, key_file, plugin_check
from marq.host import server_file as locate
from marq.host import sockets as listen
from marq.host.directories import locked, make_writable
from marq.host.embedded_redis import EmbeddedServer
from marq.host.node_name import NodeLease, node_name
from marq.host.processes import PARENT_VARIABLE, SERVER_ENDS, raise_open_files
from marq.host.server_file import LOCAL_TOKEN_VARIABLE
from marq.host.watcher import Plan, Program
from marq.registry import token_store
from marq.registry.models import Registry
from marq.settings import addresses, grpc_addresses, snapshot
from marq.settings.fields import SECRET, Settings
from marq.settings.loading import Resolved
from marq.settings.properties import SettingsError
from marq.settings.snapshot_files import Snapshots

log = logging.getLogger(__name__)

GATEWAY_STOP_S, NODE_STOP_S, BRIDGE_STOP_S, REDIS_STOP_S = (
    10.0,
    15.0,
    15.0,
    20.0,
)  # the first two beyond the stop limit
ADDRESSES = {"inference": "inference_address", "management": "management_address"}
STARTED = "Model server started."  # as TorchServe says it: scripts wait for this line
Announce = Callable[[str], None]


class Supervisor:
    """Sets up a server. `announce` gets lines for the user.

    `joins`: gateways alone, next to those of other hosts, whose tokens and models they keep.
    """

    def __init__(
        self,
        settings: Settings,
        announce: Announce,
        joins: bool = False,
        snapshots: Snapshots | None = None,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        self._settings, self._announce, self._joins = settings, announce, joins
        self._snapshots = snapshots
        self._sources = dict(sources or {})
        self._embedded: EmbeddedServer | None = None
        self._local_token = ""  # of this host's commands; empty without token authorization

    def run(self) -> NoReturn:
        """Never returns: this process becomes the watcher, and ends with its exit code.

        Raises AlreadyRunning, NameTaken, PluginError, PortTaken, RedisUnavailable or SettingsError; then
        nothing is left running.
        """
        state_dir = self._settings.state_dir
        make_writable(state_dir, "state directory", "Name another one with --state-dir or MARQ_STATE_DIR.")
        self._check_snapshot()
        plugin_check.check(self._settings)
        with locked(state_dir), contextlib.ExitStack() as stack:
            self._settings = certificates.prepare(self._settings)
            sockets = {
                plane: stack.enter_context(listen.listen(getattr(self._settings, name), name))
                for plane, name in self._addresses().items()
            }
            for plane in grpc_addresses.planes(self._settings):
                if reserved := listen.reserve(plane):
                    stack.enter_context(reserved).set_inheritable(True)  # the watcher keeps it
            try:
                self._set_up()
                self._plan(sockets).execute()
            except BaseException:
                if self._embedded:
                    self._embedded.stop()
                locate.remove(state_dir)
                raise

    def _addresses(self) -> dict[str, str]:
        """The settings that name the addresses; the inference API's may serve the management API, too."""
        names = dict(ADDRESSES)
        parsed = {
            plane: addresses.parse(getattr(self._settings, name), name) for plane, name in names.items()
        }
        if parsed["management"] == parsed["inference"]:
            del names["management"]
        if self._settings.metrics_plane == "metrics":
            names["metrics"] = "metrics_address"
        return names

    def _set_up(self) -> None:
        self._connect()
        from marq.control.startup import JoinedRegistry

        client = clients.client(self._settings.redis_url)
        if not self._joins:
            self._take_name(client)
        if not self._settings.disable_token_auth:
            for each in key_file.write(self._settings, client, self._joins):
                self._announce(each)
            self._local_token = token_store.new_local_token()
        self._write_server_file()
        if self._settings.models or not self._joins:  # else these gateways serve the models that others load
            self._load_models(JoinedRegistry(client) if self._joins else Registry(client))
        for each in greeting.places(self._settings):
            self._announce(each)
        self._write_snapshot(Registry(client))
        served = sorted(Registry(client).models(), key=lambda spec: spec.key)
        for each in greeting.models(self._settings, served, self._joins):
            self._announce(each)
        self._announce(STARTED)

    def _check_snapshot(self) -> None:
        """Raises SettingsError if a snapshot names an archive that is not there."""
        given, store = self._settings.model_snapshot, self._settings.model_store
        if given and (error := snapshot.missing(given, store)):
            raise SettingsError(error)

    def _connect(self) -> None:
        if not self._settings.redis_url:
            self._embedded = EmbeddedServer(
                self._settings.state_dir / "redis", self._settings.redis_max_memory
            )
            self._embedded.start()
            # Files of jobs beside the queue itself: they are lost only together
            files = self._settings.job_payload_dir or self._settings.state_dir / "job-payloads"
            update = {"redis_url": self._embedded.url, "job_payload_dir": files.absolute()}
            self._settings = self._settings.model_copy(update=update)
        clients.check(self._settings.redis_url)
        self._announce(greeting.line("Redis", urls.without_password(self._settings.redis_url)))

    def _take_name(self, client: RedisClient) -> None:
        """Takes the lease of the node's name, which the node goes on with. Raises NameTaken."""
        lease = NodeLease(client, node_name(self._settings.state_dir), self._settings.state_dir)
        with contextlib.closing(lease):
            lease.hold()

    def _write_server_file(self) -> None:
        """It lets this user's commands find the server and its tokens."""
        settings = self._settings
        server = locate.Server(
            pid=os.getpid(),
            redis_url=settings.redis_url,
            inference_address=settings.inference_address,
            management_address=settings.management_address,
            metrics_address=settings.metrics_address if settings.enable_metrics_api else "",
            token=self._local_token,
            certificate=certificates.certificate(settings),
            log_dir=str(settings.log_dir.resolve()),
            key_file=str(key_file.path()) if self._local_token and not self._joins else "",
            runs_node=not self._joins,
            settings=settings.model_dump(mode="json", exclude=set(SECRET)),
            sources=self._sources,
        )
        locate.write(settings.state_dir, server)

    def _load_models(self, registry: Registry) -> None:
        from marq.control.removal import retire
        from marq.control.startup import load_startup_models, restore

        if self._settings.forget_models and not self._joins:
            for spec in registry.models():
                if not spec.loaded_at_startup:
                    retire(registry, spec)
            registry.redis.delete(keys.WORKFLOWS)
        found = self._snapshots.restored if self._snapshots else None
        server = node_name(self._settings.state_dir)
        if found:
            restore(self._settings, registry, found)
        load_startup_models(self._settings, registry, server, found)

    def _write_snapshot(self, registry: Registry) -> None:
        if self._snapshots:
            from marq.control import snapshots

            snapshots.write(self._snapshots, snapshots.STARTUP, snapshots.state(registry.models()))

    def _plan(self, sockets: Mapping[str, socket.socket]) -> Plan:
        python = [sys.executable, "-P", "-m"]
        environment = {**self._settings.environment(), PARENT_VARIABLE: str(os.getpid())}
        descriptors = [sock.fileno() for sock in sockets.values()]
        for descriptor in descriptors:
            os.set_inheritable(descriptor, True)
        gateway_environment = {
            **environment,
            **listen.environment(sockets),
            LOCAL_TOKEN_VARIABLE: self._local_token,
        }
        gateways = [
            Program(
                f"gateway {n}",
                [*python, "gateway"],
                GATEWAY_STOP_S,
                {**gateway_environment, listen.GATEWAY_VARIABLE: str(n)},
                descriptors,
                drains=True,
                stop_signal=SERVER_ENDS,
            )
            for n in range(self._settings.gateway_workers)
        ]
        if self._snapshots:
            gateways[0].environment.update(self._snapshots.environment())
        node = Program("node", [*python, "workers.node"], NODE_STOP_S, environment, drains=True)
        stages = [gateways] if self._joins else [gateways, [node]]
        if self._settings.celery_bridge:  # after the node, whose last results it writes
            bridge = Program("Celery bridge", [*python, "bridge"], BRIDGE_STOP_S, environment)
            stages.append([bridge])
        if self._embedded:
            stages.append([self._embedded.program("Redis server", REDIS_STOP_S)])
        server_file = self._settings.state_dir / locate.FILE_NAME
        return Plan(stages, str(server_file), str(self._settings.log_dir))


def start(resolved: Resolved, announce: Announce, joins: bool = False) -> NoReturn:
    """Sets up the log, logs warnings about the settings, and runs. Raises as `Supervisor.run`."""
    raise_open_files()
    settings = resolved.settings
    os.environ[logs.FORMAT_VARIABLE] = settings.log_format
    make_writable(settings.log_dir, "log directory", "Name another one with LOG_LOCATION.")
    logs.configure("supervisor", settings.log_dir)
    for notice in (*resolved.without_effect, *resolved.notices):
        log.warning("%s", notice)
    Supervisor(settings, announce, joins, resolved.snapshots, resolved.sources).run()
