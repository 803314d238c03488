"""A server that many test modules use, one after the other: none of them finds a trace of those before it."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import redis
from support import RunningServer


@dataclass(frozen=True)
class SharedServer:
    """A running server with the usual settings, without tokens, and its model store."""

    server: RunningServer
    store: Path

    def serve(self, archives: Path, models: list[str] | None = None) -> RunningServer:
        """Registers archives of a folder, all unless some are named; does not wait for their replicas."""
        names = sorted(path.name for path in archives.iterdir())
        for name in names:
            shutil.copy(archives / name, self.store / name)
        for name in names if models is None else models:
            query = {"url": name, "synchronous": "false"}
            httpx.post(f"{self.server.management}/models", params=query, timeout=60).raise_for_status()
        return replace(self.server, model_log_start=len(self.server.model_log))

    def clear(self) -> None:
        """Unregisters all models, and deletes their archives and everything that Redis keeps of them."""
        with httpx.Client(base_url=self.server.management, timeout=150) as api:
            names = [model["modelName"] for model in api.get("/models").json()["models"]]
            for name in names:
                _unregister(api, name)
        with redis.Redis.from_url(self.server.redis_url) as client:
            for name in names:
                client.delete("-", *client.keys(f"marq:{{{name}}}:*"))
        for archive in self.store.iterdir():
            archive.unlink()


def _unregister(api: httpx.Client, name: str) -> None:
    default = api.get(f"/models/{name}").json()[0]["modelVersion"]
    versions = [each["modelVersion"] for each in api.get(f"/models/{name}/all").json()]
    for version in sorted(versions, key=lambda version: version == default):  # the default version last
        api.delete(f"/models/{name}/{version}").raise_for_status()
