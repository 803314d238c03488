"""A server under test, its processes, its Redis, and what is left behind in it."""

import asyncio
import contextlib
import itertools
import json
import re
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import archives
import churn
import psutil
import redis
from http_client import Broken, Client, Response
from support import MARQ, RunningServer, start_server

from marq import keys
from marq.registry.token_store import KEY_FILE

SINGLE = r"(job|parts|replies|process|host|slot|owner|celery):.*"  # keys of one job, gateway, process ...
JOBS = re.compile(r"marq:\{\w+\}:(job|jobs|parts):.*")  # they keep their results until these expire
MAX_REQUEST_SIZE = 60 << 20
READY_S = 60.0
SETTLE_S = 20.0  # within which nothing may be left in the lanes
FILES_SETTLE_S = 90.0  # gateways look for answers that nobody fetches every 20 s
PAYLOADS = "payloads"


@dataclass
class Stage:
    """`redis_url` is how the cases themselves reach Redis."""

    server: RunningServer
    directory: Path
    redis_url: str
    payloads: Path  # where bodies and answers are files
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)  # unique payloads

    @classmethod
    def start(
        cls,
        directory: Path,
        redis_url: str = "",
        own_url: str = "",
        models: Collection[str] = tuple(archives.MODELS),
        tokens: bool = False,
        store: Path | None = None,
        **config: Any,
    ) -> "Stage":
        """A server; `own_url`: where Redis is, if `redis_url` is a detour. With `tokens` or without.

        `store`: the model store of another one, instead of its own.
        """
        if store is None:
            store = directory / "store"
            archives.pack_all(store, directory / "sources", directory)
            churn.pack(store, directory / "sources")
        payloads = Path(config.pop("payload_dir", directory / PAYLOADS))
        settings = {
            "gateway_workers": 2, "max_request_size": MAX_REQUEST_SIZE,
            "payload_dir": str(payloads), **config,
        }  # fmt: skip
        arguments = ["--enable-model-api", *(["--redis-url", redis_url] if redis_url else [])]
        if not tokens:
            arguments.append("--disable-token-auth")
        server = start_server(directory, store, [f"{model}.mar" for model in models], arguments, settings)
        stage = cls(server, directory, own_url or server.redis_url, payloads)
        try:
            for model in () if tokens else models:
                server.wait_until_ready(model, archives.MODELS[model])
        except BaseException:
            server.stop()
            raise
        return stage

    def client(self, plane: str = "inference") -> Client:
        """A client with the token of a plane, where it needs one."""
        file = self.server.log.with_name(KEY_FILE)
        token = json.loads(file.read_text())[plane]["key"] if file.is_file() else ""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return Client(self.server.management if plane != "inference" else self.server.inference, headers)

    async def manage(self, method: str, path: str) -> Response:
        """A request to the management API. Raises RuntimeError unless it succeeds."""
        client = self.client("management")
        try:
            answer = await client.request(method, path, timeout_s=READY_S)
        finally:
            client.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.told}")
        return answer

    @contextlib.asynccontextmanager
    async def registered(self, model: str) -> AsyncIterator[None]:
        """A model of archives.LATER, ready; unregistered afterwards, unless it has been meanwhile."""
        await self.manage("POST", f"/models?url={model}.mar")
        try:
            await self.until_ready(model, archives.LATER[model])
            yield
        finally:
            with contextlib.suppress(RuntimeError):
                await self.manage("DELETE", f"/models/{model}/1.0")

    def redis(self) -> Any:
        return redis.Redis.from_url(self.redis_url, socket_timeout=60)

    # processes

    @property
    def gateways(self) -> list[psutil.Process]:
        return _children(self.server.process.pid, "gateway")

    @property
    def nodes(self) -> list[psutil.Process]:
        return _children(self.server.process.pid, "workers.node")

    @property
    def redis_process(self) -> psutil.Process:
        """Raises StopIteration while it is down."""
        found = psutil.Process(self.server.process.pid).children()
        return next(process for process in found if _is_valkey(process))

    def pools(self, model: str) -> list[psutil.Process]:
        return [
            pool for node in self.nodes for pool in _children(node.pid, "workers.pool") if _is_of(pool, model)
        ]

    @contextlib.contextmanager
    def second_node(self) -> Iterator[psutil.Process]:
        """A node as on another host: nobody starts it again."""
        command = [MARQ, "node", "--redis-url", self.redis_url, "--name", "second", "--state-dir"]
        with (self.directory / "second.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, self.directory / "second"], stdout=log, stderr=log, env=self.server.environment
            )
        try:
            yield psutil.Process(process.pid)
        finally:
            process.kill()
            process.wait()

    def number_of_replicas(self, model: str) -> int:
        """Those that run, ready or not."""
        return sum(len(self.replicas_of(node, model)) for node in self.nodes)

    def replicas_of(self, node: psutil.Process, model: str) -> list[psutil.Process]:
        pools = (pool for pool in _children(node.pid, "workers.pool") if _is_of(pool, model))
        return [replica for pool in pools for replica in _children(pool.pid, "workers.replica")]

    async def ready_replicas(self, model: str) -> list[int]:
        """Process ids; empty also while the server cannot tell."""
        client = self.client("management")
        try:
            answer = await client.request("GET", f"/models/{model}", timeout_s=5)
            workers = json.loads(answer.body)[0]["workers"] if answer.status == 200 else []
        except (Broken, TimeoutError):
            return []
        finally:
            client.close()
        return [worker["pid"] for worker in workers if worker["status"] == "READY" and lives(worker["pid"])]

    async def until_ready(
        self, model: str, replicas: int | None = None, timeout_s: float = 60.0
    ) -> list[int]:
        wanted = archives.MODELS[model] if replicas is None else replicas
        async with asyncio.timeout(READY_S):
            while len(ready := await self.ready_replicas(model)) < wanted:
                await asyncio.sleep(0.1)
        return ready

    # what is left

    def dead_letters(self, model: str) -> int:
        with self.redis() as client:
            return int(client.xlen(keys.dead_letters(model)))

    def left_in_lanes(self, model: str) -> dict[str, tuple[int, int]]:
        """Lane -> (entries, pending ones), of those that have any."""
        with self.redis() as client:
            left = {
                lane: (client.xlen(lane), client.xpending(lane, keys.GROUP)["pending"])
                for lane in keys.lanes(model, "1.0")
            }
        return {lane: counts for lane, counts in left.items() if any(counts)}

    async def until_empty(self, model: str) -> dict[str, tuple[int, int]]:
        """What is still in the lanes after a while; empty as soon as nothing is."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while left := await asyncio.to_thread(self.left_in_lanes, model):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.1)
        return left

    async def until_no_files(self) -> list[str]:
        """The files of bodies and answers that are there after a while; empty as soon as there are none."""
        deadline = asyncio.get_running_loop().time() + FILES_SETTLE_S
        while left := await asyncio.to_thread(self._files):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.1)
        return left

    def _files(self) -> list[str]:
        return [str(path) for path in self.payloads.rglob("*") if path.is_file()]

    def redis_memory(self) -> int:
        """Bytes in use."""
        with self.redis() as client:
            return int(client.info("memory")["used_memory"])

    def kinds_of_keys(self) -> Counter[str]:
        """What is in Redis, without the ids of single jobs, gateways and processes."""
        with self.redis() as client:
            names = [key.decode() for key in client.scan_iter(count=1000)]
        return Counter(re.sub(SINGLE, r"\1:*", name) for name in names)

    def keys_of(self, *models: str) -> list[str]:
        """All keys with the name of one of these models, those of its jobs excepted."""
        with self.redis() as client:
            names = [key.decode() for key in client.scan_iter(count=1000)]
        return sorted(
            name
            for name in names
            if any(re.search(rf"\b{model}\b", name) for model in models) and not JOBS.fullmatch(name)
        )

    async def until_no_keys_of(self, *models: str) -> list[str]:
        """The keys that are there after a while, when those with a time-out have gone."""
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while left := await asyncio.to_thread(self.keys_of, *models):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.1)
        return left

    def runs(self) -> dict[int, int]:
        """How often each row has been run so far."""
        counts: dict[int, int] = {}
        path = self.directory / archives.RUNS
        for line in path.read_text().splitlines() if path.exists() else ():
            counts[int(line)] = counts.get(int(line), 0) + 1
        return counts


def _is_valkey(process: psutil.Process) -> bool:
    return any("valkey-server" in word for word in command(process)[:1])


def _is_of(pool: psutil.Process, model: str) -> bool:
    return any(word.startswith(f"{model}-1.0@") for word in command(pool))


def _children(pid: int, word: str) -> list[psutil.Process]:
    return [process for process in psutil.Process(pid).children() if word in command(process)]


def command(process: psutil.Process) -> list[str]:
    """Empty for a process that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def memory(processes: list[psutil.Process]) -> int:
    """Resident bytes."""
    return sum(process.memory_info().rss for process in processes)
