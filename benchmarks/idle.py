"""`python -m benchmarks.idle --models 1,200,1000`: the CPU of a server that has models and nothing to do."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks.processes import Roles, Tree, free_port
from benchmarks.servers import MARQ_VENV
from marq.connections import clients
from marq.host import server_file
from marq.registry.models import Registry
from marq.registry.spec import ModelSpec

READY_TIMEOUT_S, SETTLE_S = 60.0, 5.0


def measure(models: int, seconds: float) -> dict[str, float]:
    """Per cent of one core for each role, with so many registered models and not one replica."""
    with registered(models) as server:
        time.sleep(SETTLE_S)
        roles, began = Roles(server.tree), time.monotonic()
        time.sleep(seconds)
        used, took = roles.read(), time.monotonic() - began
    return {role: 100 * used[role] / took for role in used if role != "benchmark"}


@dataclass(frozen=True)
class Idle:
    """A server without replicas."""

    state_dir: Path
    tree: Tree
    management: str
    metrics: str


@contextmanager
def registered(models: int) -> Iterator[Idle]:
    """A server with so many registered models."""
    with _server() as server:
        with clients.client(server_file.find(server.state_dir).redis_url) as client:
            registry = Registry(client)
            for number in range(models):
                registry.register(ModelSpec(f"m{number}", "1.0", "m.mar", "/m.mar", "h.py", max_workers=1))
        yield server


@contextmanager
def _server() -> Iterator[Idle]:
    with TemporaryDirectory(prefix="benchmark-") as directory:
        inference, management, metrics = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        config, store, state = (Path(directory, name) for name in ("config.properties", "store", "state"))
        store.mkdir()
        config.write_text(
            f"inference_address={inference}\nmanagement_address={management}\nmetrics_address={metrics}\n"
            f"grpc_inference_port={free_port()}\ngrpc_management_port={free_port()}\n"
        )
        command = [
            str(MARQ_VENV / "bin/marq"), "start", "--model-store", str(store),
            "--ts-config", str(config), "--disable-token-auth",
        ]  # fmt: skip
        tree = Tree(command, {**os.environ, "MARQ_STATE_DIR": str(state)}, Path(directory))
        try:
            _wait(inference, tree)
            yield Idle(state, tree, management, metrics)
        finally:
            tree.stop()


def _wait(inference: str, tree: Tree) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and not tree.has_ended:
        try:
            httpx.get(f"{inference}/ping")
            return
        except httpx.TransportError:  # not up yet
            time.sleep(0.2)
    raise TimeoutError(f"the server was not ready in time:\n{tree.log_tail()}")


def table(rows: dict[int, dict[str, float]]) -> Table:
    roles = ("gateway", "node", "redis", "others")
    made = Table("models", *(f"{role}, %" for role in roles), "in all, % of a core")
    for models, used in rows.items():
        cells = (f"{used.get(role, 0.0):.1f}" for role in roles)
        made.add_row(f"{models:,}", *cells, f"{sum(used.values()):.1f}")
    return made


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle", description=__doc__)
    parser.add_argument("--models", default="1,200,1000", help="numbers of models, separated by commas")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the CPU is measured")
    options = parser.parse_args()
    numbers = [int(number) for number in options.models.split(",")]
    Console(highlight=False).print(table({models: measure(models, options.seconds) for models in numbers}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
