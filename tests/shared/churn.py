"""Many changes of the registry at once over HTTP, and whether all views of it agree afterwards."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis
from support import RunningServer

from archive.packing.writer import ArchiveSpec, write
from marq import keys
from marq.registry.models import Registry

HANDLER = "def handle(data, context):\n    return [NAME] * len(data or [])\n"
NAMES, VERSIONS = ("left", "right"), ("1.0", "2.0")
AT_ONCE = 50
CONNECTIONS = 8  # so many find each of two gateways
# What a change may say to a client while others change the same: done, begun, refused, gone, or there already
EXPECTED = frozenset((200, 202, 206, 403, 404, 409))


def pack(store: Path, sources: Path) -> None:
    """Archives of two models in two versions, each of which answers with its name and version."""
    for name in NAMES:
        for version in VERSIONS:
            folder = sources / f"{name}-{version}"
            folder.mkdir(parents=True)
            handler = folder / "handler.py"
            handler.write_text(HANDLER.replace("NAME", repr(f"{name} {version}")))
            made = write(
                ArchiveSpec(model_name=name, handler=str(handler), version=version, export_path=folder)
            )
            made.rename(store / f"{name}-{version}.mar")


def churn(server: RunningServer, seed: int) -> list[str]:
    """Makes `AT_ONCE` changes at the same time; returns the answers that none of them should get."""
    chance = random.Random(seed)
    requests = [_request(chance) for _ in range(AT_ONCE)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(lambda request: _send(server, *request), requests))
    return [
        f"{request}: {answer.status_code} {answer.text}"
        for request, answer in zip(requests, answers, strict=True)
        if answer.status_code not in EXPECTED
    ]


def _send(server: RunningServer, method: str, path: str, query: dict[str, Any]) -> httpx.Response:
    return httpx.request(method, f"{server.management}{path}", params=query, timeout=200)


def _request(chance: random.Random) -> tuple[str, str, dict[str, Any]]:
    name, version = chance.choice(NAMES), chance.choice(VERSIONS)
    path, synchronous = f"/models/{name}/{version}", {"synchronous": chance.choice(("true", "false"))}
    size = chance.randrange(3)
    return chance.choice(
        (
            ("POST", "/models", {"url": f"{name}-{version}.mar", "initial_workers": size % 2, **synchronous}),
            ("DELETE", path, {}),
            ("PUT", f"{path}/set-default", {}),
            ("PUT", path, {"min_worker": size, "max_worker": size, **synchronous}),
            ("POST", f"{path}/reload", synchronous),
        )
    )


def clear(server: RunningServer) -> None:
    """Unregisters all versions of both models."""
    with httpx.Client(base_url=server.management, timeout=200) as api:
        for name in NAMES:
            for _ in VERSIONS:  # a default version goes only as the last one
                for version in VERSIONS:
                    api.delete(f"/models/{name}/{version}")


def registered(server: RunningServer) -> tuple[dict[tuple[str, str], int], dict[str, str]]:
    """The sizes of both models' versions, and the default versions, as the registry has them."""
    with redis.Redis.from_url(server.redis_url) as client:
        models = Registry(client).models()
    sizes = {(spec.name, spec.version): spec.min_workers for spec in models if spec.name in NAMES}
    return sizes, {name: version for name, version in models.defaults.items() if name in NAMES}


def disagreements(server: RunningServer) -> list[str]:
    """How the registry, gateways, `marq status`, Redis and processes differ; empty once they agree."""
    with redis.Redis.from_url(server.redis_url) as client:
        models = Registry(client).models()
        found = {key.decode() for key in client.scan_iter("marq:{*}:*:?.0")}
    specs = {(spec.name, spec.version): spec for spec in models if spec.name in NAMES}
    defaults = {name: version for name, version in models.defaults.items() if name in NAMES}
    allowed = {key for name, version in specs for key in _keys_of(name, version)}
    left = (key for key in sorted(found - allowed) if any(f"{{{name}}}" in key for name in NAMES))
    return [
        *(f"{name}: the default version {item} is not registered" for name, item in defaults.items()
          if (name, item) not in specs),
        *(f"{key} is left in Redis" for key in left),
        *_compare("marq status", _of_status(server), specs, defaults),
        *_compare("the processes", _of_processes(server), specs, None),
        *(difference for _ in range(CONNECTIONS) for difference in _of_gateway(server, specs, defaults)),
    ]  # fmt: skip


def _keys_of(name: str, version: str) -> Iterator[str]:
    yield from keys.lanes(name, version)
    yield keys.pools(name, version)
    yield from (keys.slot(name, version, number) for number in range(3))


View = dict[tuple[str, str], int]  # model, version -> its replicas


def _compare(what: str, view: View, specs: dict[Any, Any], defaults: dict[str, str] | None) -> Iterator[str]:
    wanted = {key: spec.min_workers for key, spec in specs.items()}
    if defaults is None:  # a version without replicas may have a pool, or none
        view = {key: replicas for key, replicas in view.items() if replicas or key not in wanted}
        wanted = {key: replicas for key, replicas in wanted.items() if replicas}
    if view != wanted:
        yield f"{what}: {view}, the registry: {wanted}"


def _of_status(server: RunningServer) -> View:
    told = json.loads(server.marq("status", "--json").stdout)["models"]
    return {(m["name"], m["version"]): m["replicas_ready"] for m in told if m["name"] in NAMES}


def _of_processes(server: RunningServer) -> View:
    view: View = {}
    for process in psutil.Process(server.process.pid).children(recursive=True):
        try:
            command = process.cmdline()
            if "workers.pool" in command:
                pool = command[command.index("workers.pool") + 1]
                name, _, version = pool.partition("@")[0].rpartition("-")
                replicas = [each for each in process.children() if "workers.replica" in each.cmdline()]
                if name in NAMES:
                    view[name, version] = view.get((name, version), 0) + len(replicas)
        except psutil.Error:
            continue  # it has ended
    return view


def _of_gateway(server: RunningServer, specs: dict[Any, Any], defaults: dict[str, str]) -> Iterator[str]:
    """Asks the gateway of one new connection."""
    with httpx.Client(timeout=60) as client:
        for name in NAMES:
            for version in (None, *VERSIONS):
                spec = specs.get((name, version or defaults.get(name)))
                path = f"{name}/{version}" if version else name
                answer = client.post(f"{server.inference}/predictions/{path}", content=b"x")
                wanted = 404 if spec is None else 200 if spec.min_workers else 503
                if answer.status_code != wanted:
                    yield f"{path}: {answer.status_code} instead of {wanted}: {answer.text}"
                elif spec is not None and wanted == 200 and answer.text != f"{name} {spec.version}":
                    yield f"{path}: answered by {answer.text}"
        yield from _described(client, server, specs)


def _described(client: httpx.Client, server: RunningServer, specs: dict[Any, Any]) -> Iterator[str]:
    view: View = {}
    for name in NAMES:
        answer = client.get(f"{server.management}/models/{name}/all")
        for each in answer.json() if answer.status_code == 200 else ():
            ready = [worker for worker in each["workers"] if worker["status"] == "READY"]
            view[name, each["modelVersion"]] = sum(psutil.pid_exists(worker["pid"]) for worker in ready)
    yield from _compare("describe", view, specs, {})
