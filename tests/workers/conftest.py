"""A registered model, and what a pool and its replicas know of it."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import wait_for

from marq import keys
from marq.connections import clients
from marq.connections.blocking import Connection
from marq.queue.replies.entries import Reply, decode_replies
from marq.registry.models import Registry
from marq.registry.name_lease import Owner
from marq.registry.spec import ModelSpec
from workers.launch import PoolSpec
from workers.pool.celery_pool import ReplicaPool
from workers.pool.recovery import Recovery
from workers.pool.replica_process import Ending, ReplicaProcess


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    """redis-py, to look at what is stored."""
    with clients.client(redis_url) as client:
        yield client


@pytest.fixture
def registry(client: Any) -> Registry:
    return Registry(client)


Register = Callable[..., ModelSpec]


@pytest.fixture
def register(registry: Registry) -> Register:
    """Registers the model `m` with these settings: register(batch_size=4)."""

    def register(version: str = "1.0", **settings: Any) -> ModelSpec:
        spec = ModelSpec("m", version, "m.mar", "/store/m.mar", "handler.py", **settings)
        registry.put(spec)
        return spec

    return register


@pytest.fixture
def plain(redis_url: str) -> Iterator[Connection]:
    """The connection that replicas use."""
    connection = Connection(redis_url)
    yield connection
    connection.close()


@pytest.fixture
def make_pool(redis_url: str, tmp_path: Path) -> Callable[..., PoolSpec]:
    """What a pool of a model is told: make_pool(spec, node="a")."""

    def make(model: ModelSpec, **settings: Any) -> PoolSpec:
        given: dict[str, Any] = {
            "node": "host", "owner": str(Owner.this_process()),
            "unpacked": str(tmp_path), "model_dir": str(tmp_path), "redis_url": redis_url,
            "run_dir": str(tmp_path / "run"), "log_file": str(tmp_path / "model_log.log"), "gpus": [],
            "first_device": 0, "threads": 1, "max_response_size": 1_000_000, "job_result_ttl_ms": 60_000,
            "decode_input": True, "limit_max_image_pixels": True,
        }  # fmt: skip
        return PoolSpec(model, **{**given, **settings})

    return make


AddRows = Callable[..., list[bytes]]


@pytest.fixture
def add(client: Any) -> AddRows:
    """Queues rows of the model `m`: add(b"a", b"b", lane=keys.LOW, attempts=1) -> their entries."""

    def add(*bodies: bytes, lane: str = keys.NORMAL, **fields: Any) -> list[bytes]:
        stream = keys.lane("m", "1.0", lane)
        return [client.xadd(stream, {**fields, "body": body}) for body in bodies]

    return add


# a replica process that serves a handler which does what its rows say

HANDLER = """
import os, sys, time
from pathlib import Path

class Handler:
    def initialize(self, context):  # noqa: ARG002
        print("device", context.system_properties["gpu_id"])

    def handle(self, data, context):  # noqa: ARG002
        return [self.answer(bytes(row["body"]) if "body" in row else b"", len(data)) for row in data]

    def answer(self, body, rows):
        command, _, argument = body.decode().partition(" ")
        if command == "sleep":
            time.sleep(float(argument))
        elif command == "hold":  # until release() is called for it
            while not Path(argument).exists():
                time.sleep(0.01)
        elif command == "exit":
            sys.exit(3)
        elif command == "die":
            os._exit(3)
        elif command == "print":
            print(argument, flush=True)
        elif command == "rows":
            return str(rows)
        return body
"""


class Started:
    """A replica process, with what a pool would do about it."""

    def __init__(self, process: ReplicaProcess, recovery: Recovery) -> None:
        self.process, self._recovery = process, recovery

    def wait_until(self, state: str) -> None:
        what = f"{state}; output: {list(self.process.output.tail)}"
        wait_for(lambda: self.process.state == state, timeout_s=120, what=what)  # it may import PyTorch

    def wait_until_running(self) -> None:
        wait_for(lambda: self.process.board.running, what="a batch")

    def wait_for_exit(self) -> int:
        wait_for(lambda: self.process.exit_code is not None, what="its end")
        self.process.output.wait()
        code = self.process.exit_code
        assert code is not None
        return code

    def put_back(self) -> None:
        """What a pool does when a replica has ended."""
        self._recovery.requeue(self.process.consumer, self.process.board.running, "cpu", Ending("ended"))


class Gateway:
    """Sends predictions and reads their replies."""

    stream = keys.replies("gateway")

    def __init__(self, client: Any, connection: Connection, add: Any) -> None:
        self._connection, self._add = connection, add
        client.xgroup_create(self.stream, keys.GROUP, mkstream=True)

    def send(self, *bodies: bytes, **fields: Any) -> list[bytes]:
        entries: list[bytes] = self._add(*bodies, replies=self.stream, **fields)
        return entries

    def replies(self) -> list[Reply]:
        entries = self._connection.execute("XRANGE", self.stream, "-", "+")
        return [reply for _, fields in entries for reply in decode_replies(fields)]

    def wait(self, count: int) -> list[Reply]:
        """The replies, when there are so many."""
        wait_for(lambda: len(self.replies()) >= count, what=f"{count} replies")
        return self.replies()


@pytest.fixture
def gateway(client: Any, plain: Connection, add: AddRows) -> Gateway:
    return Gateway(client, plain, add)


StartReplica = Callable[..., Started]


@pytest.fixture
def start(make_pool: Any, registry: Registry, tmp_path: Path) -> Iterator[StartReplica]:
    """Starts a replica: start(spec, wait=True, handler=source, redis_url=...)."""
    started: list[Started] = []

    def start(spec: ModelSpec, wait: bool = True, handler: str = HANDLER, **settings: Any) -> Started:
        directory = tmp_path / "model"
        directory.mkdir(exist_ok=True)
        (directory / "handler.py").write_text(handler)
        pool = make_pool(spec, model_dir=str(directory), **settings)
        process = ReplicaProcess(pool, len(started), logging.getLogger("test.model"))
        started.append(Started(process, Recovery(pool, registry)))
        if wait:
            started[-1].wait_until("ready")
        return started[-1]

    yield start
    for replica in started:
        if replica.process.exit_code is None:
            replica.process.kill()
            replica.wait_for_exit()


@pytest.fixture
def release(tmp_path: Path) -> Callable[[str], None]:
    """Lets the handler go on with the row `hold NAME`: release("NAME")."""
    return lambda name: (tmp_path / "model" / name).touch()


# a pool, in this process

SERVING = "def handle(data, context): return data and [b'served'] * len(data)\n"

StartPool = Callable[..., ReplicaPool]


@pytest.fixture
def pool(
    make_pool: Any, register: Register, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StartPool]:
    """Runs the pool of a model in this process: pool(2, handler=source) -> what Celery would call."""
    started: list[ReplicaPool] = []

    def start(limit: int = 1, handler: str = SERVING, **settings: Any) -> ReplicaPool:
        directory = tmp_path / "model"
        directory.mkdir()
        (directory / "handler.py").write_text(handler)
        spec: PoolSpec = make_pool(register(**settings), model_dir=str(directory))
        for name, value in spec.to_environment().items():
            monkeypatch.setenv(name, value)
        pool = ReplicaPool(limit=limit)
        pool.start()
        started.append(pool)
        return pool

    yield start
    for pool in started:
        pool.stop()


@pytest.fixture
def ready(registry: Registry, register: Register) -> Callable[..., list[int]]:
    """Waits until so many replicas are ready: their process ids."""
    spec = register()

    def wait(count: int, other_than: tuple[int, ...] = ()) -> list[int]:
        def pids() -> list[int]:
            return [r.pid for r in registry.replicas(spec) if r.is_ready]

        wait_for(lambda: len(pids()) == count and not set(pids()) & set(other_than), what=f"{count} replicas")
        return pids()

    return wait
