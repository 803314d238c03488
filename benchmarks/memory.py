"""`python -m benchmarks.memory`: CPU memory of 1 and 4 replicas of a model with 200 MB of weights."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import httpx
import psutil
import torch
from rich.console import Console
from rich.table import Table

from archive.packing.writer import ArchiveSpec, write
from benchmarks.handlers.large_net import LargeNet
from benchmarks.processes import Tree, free_port
from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import HANDLERS

SIZES = (1, 4)
READY_TIMEOUT_S = 120.0
MB = 1_000_000


class Usage(NamedTuple):
    """Of all replicas together, in MB. PSS divides a page among the processes that share it."""

    replicas: int
    pss: float
    rss: float


def pack(store: Path) -> int:
    """Writes large.mar into the store; returns the size of its weights in bytes."""
    weights = store.parent / "large.pth"
    torch.save(LargeNet().state_dict(), weights)
    handler, model = (str(HANDLERS / name) for name in ("large.py", "large_net.py"))
    write(
        ArchiveSpec(
            "large", handler, "1.0", str(weights), model, export_path=store, archive_format="zip-store"
        )
    )
    size = weights.stat().st_size
    weights.unlink()
    return size


def measure(store: Path, copies: bool) -> list[Usage]:
    """One entry for each of SIZES. With `copies` the handler does not map its weights."""
    with _server(store, copies) as (management, tree):
        return [_scaled(management, tree, replicas) for replicas in SIZES]


@contextmanager
def _server(store: Path, copies: bool) -> Iterator[tuple[str, Tree]]:
    with TemporaryDirectory(prefix="benchmark-") as directory:
        inference, management = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        config = Path(directory, "config.properties")
        models = json.dumps({"large": {"1.0": {"minWorkers": 1, "maxWorkers": max(SIZES)}}})
        config.write_text(
            f"inference_address={inference}\nmanagement_address={management}\nmodels={models}\n"
            f"metrics_address=http://127.0.0.1:{free_port()}\n"
            f"grpc_inference_port={free_port()}\ngrpc_management_port={free_port()}\n"
        )
        environment = {
            **os.environ,
            "MARQ_STATE_DIR": f"{directory}/state",
            "MEMORY_COPIES": str(copies).lower(),
        }
        command = [
            str(MARQ_VENV / "bin/marq"),
            "start",
            "--model-store",
            str(store),
            "--models",
            "large.mar",
            "--ts-config",
            str(config),
            "--disable-token-auth",
        ]
        tree = Tree(command, environment, Path(directory))
        try:
            yield management, tree
        finally:
            tree.stop()


def _scaled(management: str, tree: Tree, replicas: int) -> Usage:
    """Waits for `replicas` replicas, and measures them."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and not tree.has_ended:
        if _ready(management, replicas) == replicas:
            return _usage(tree, replicas)
        time.sleep(0.2)
    raise TimeoutError(f"{replicas} replicas were not ready in time:\n{tree.log_tail()}")


def _ready(management: str, replicas: int) -> int:
    """How many are, once the server has been asked for them."""
    try:
        httpx.put(f"{management}/models/large", params={"min_worker": replicas, "max_worker": replicas})
        workers = httpx.get(f"{management}/models/large").json()[0]["workers"]
    except (httpx.TransportError, KeyError):  # not up yet
        return 0
    return sum(worker["status"] == "READY" for worker in workers)


def _usage(tree: Tree, replicas: int) -> Usage:
    time.sleep(1)  # memory that loading has freed goes back
    found = [p for p in tree.processes() if any(mark in " ".join(p.cmdline()) for mark in Marq.replica_marks)]
    memory = [process.memory_full_info() for process in found]
    if len(memory) != replicas:
        raise RuntimeError(f"{len(memory)} processes were found for {replicas} replicas")
    return Usage(replicas, sum(m.pss for m in memory) / MB, sum(m.rss for m in memory) / MB)


def table(rows: dict[str, list[Usage]]) -> Table:
    """One row for each way and size, with the memory of each further replica."""
    made = Table("weights", "replicas", "PSS, MB", "RSS, MB", "PSS of each further one, MB")
    for name, usages in rows.items():
        first = usages[0]
        for usage in usages:
            further = (usage.pss - first.pss) / max(1, usage.replicas - first.replicas)
            shown = f"{further:,.0f}" if usage is not first else ""
            made.add_row(name, str(usage.replicas), f"{usage.pss:,.0f}", f"{usage.rss:,.0f}", shown)
    return made


def main() -> int:
    if not sys.platform.startswith("linux"):
        sys.exit("PSS is known on Linux only.")
    console = Console(highlight=False)
    with TemporaryDirectory(prefix="benchmark-") as directory:
        store = Path(directory, "store")
        store.mkdir()
        size = pack(store)
        free = psutil.virtual_memory().available
        console.print(f"Weights: {size / MB:,.0f} MB. Free memory: {free / MB:,.0f} MB.")
        rows = {"mapped (as marq does)": measure(store, copies=False), "copied": measure(store, copies=True)}
        shutil.rmtree(store)
    console.print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
