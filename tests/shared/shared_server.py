"""A server that many test modules use, one after the other: none of them finds a trace of those before it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import psutil
import redis
from support import RunningServer, wait_for

END_S = 150.0  # a replica may finish its batch


@dataclass(frozen=True)
class SharedServer:
    """A running server with the usual settings, without tokens, and its model store."""

    server: RunningServer
    store: Path

    def serve(self, archives: Path, models: list[str] | None = None) -> RunningServer:
        """Registers archives of a folder, all unless some are named; does not wait for their replicas.

        A folder in it is a model directory.
        """
        log_start = len(self.server.model_log)
        names = sorted(path.name for path in archives.iterdir())
        for name in names:
            copy = shutil.copytree if (archives / name).is_dir() else shutil.copy
            copy(archives / name, self.store / name)
        for name in names if models is None else models:
            query = {"url": name, "synchronous": "false"}
            httpx.post(f"{self.server.management}/models", params=query, timeout=60).raise_for_status()
        return replace(self.server, model_log_start=log_start)

    def clear(self) -> None:
        """Unregisters all models; deletes their archives, and what Redis keeps of them.

        Their pools have ended then: these answer no request, log no line and report nothing any more.
        """
        with httpx.Client(base_url=self.server.management, timeout=150) as api:
            names = [model["modelName"] for model in api.get("/models").json()["models"]]
            for name in names:
                _unregister(api, name)
        wait_for(lambda: not self._pools(), END_S, "the end of all pools", self.server.log)
        with redis.Redis.from_url(self.server.redis_url) as client:
            for name in names:
                client.delete("-", *client.keys(f"marq:{{{name}}}:*"))
        for archive in self.store.iterdir():
            if archive.is_dir():
                shutil.rmtree(archive)
            else:
                archive.unlink()

    def _pools(self) -> list[psutil.Process]:
        """The processes of pools and of their replicas."""
        found = psutil.Process(self.server.process.pid).children(recursive=True)
        return [process for process in found if {"workers.pool", "workers.replica"} & {*_command(process)}]


def _command(process: psutil.Process) -> list[str]:
    """Empty for a process that has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _unregister(api: httpx.Client, name: str) -> None:
    default = api.get(f"/models/{name}").json()[0]["modelVersion"]
    versions = [each["modelVersion"] for each in api.get(f"/models/{name}/all").json()]
    for version in sorted(versions, key=lambda version: version == default):  # the default version last
        api.delete(f"/models/{name}/{version}").raise_for_status()
