"""`python -m benchmarks.gpu`: rows/s of two networks behind marq, and of their handlers in a bare loop.

Run it once as it is, and once beside `nvidia-cuda-mps-control -d`. Without a GPU it runs on the CPU, which
only shows that it works: use --small there.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
from rich.console import Console
from rich.table import Table

from archive.packing.writer import ArchiveSpec, write
from benchmarks.handlers.gpu_nets import SIZES
from benchmarks.processes import Tree, free_port
from benchmarks.servers import MARQ_VENV
from benchmarks.workloads import HANDLERS
from marq import gpus
from marq.client import Client
from marq.host import server_file

READY_TIMEOUT_S = 300.0
WARMUP_S = 3.0
IN_FLIGHT = 4  # batches for each replica, so that none waits for clients
REPLICAS = (1, 2, 4)


def bare(kind: str, width: int, batch: int, seconds: float) -> float:
    """Rows/s of the handler alone, in this process."""
    sys.path.insert(0, str(HANDLERS))
    from benchmarks.handlers.gpu import Handler

    handler = Handler()
    properties = {"gpu_id": 0 if gpus.visible() else None}
    config = {"net": {"kind": kind, "width": width}}
    handler.initialize(SimpleNamespace(model_yaml_config=config, system_properties=properties))
    rows = [{"body": bytearray(b"x")}] * batch
    counted = (batch for _ in itertools.count() if handler.handle(rows, None))
    return _rate(counted, seconds)


def _rate(counts: Iterator[int], seconds: float) -> float:
    """The sum of the counts for each second, after a warm-up."""
    for duration_s in (WARMUP_S, seconds):
        began, total = time.monotonic(), 0
        while total == 0 or time.monotonic() - began < duration_s:
            total += next(counts)
    return total / (time.monotonic() - began)


def served(store: Path, batch: int, seconds: float) -> Iterator[tuple[int, float]]:
    """(replicas, rows/s behind marq) for each number of replicas on the first GPU."""
    with _server(store) as (management, redis_url):
        for replicas in REPLICAS:
            _scale(management, replicas)
            with Client(redis_url) as client:
                results = client.map("net", itertools.repeat("x"), window=IN_FLIGHT * batch * replicas)
                yield replicas, _rate((1 for _ in results), seconds)


def pack(store: Path, kind: str, width: int, batch: int) -> None:
    config = store / "model-config.yaml"
    settings = {"batchSize": batch, "maxBatchDelay": 20, "minWorkers": 1, "maxWorkers": 1, "deviceIds": [0]}
    config.write_text(json.dumps({**settings, "net": {"kind": kind, "width": width}}))
    write(
        ArchiveSpec(
            "net", str(HANDLERS / "gpu.py"), "1.0", config_file=str(config), export_path=store,
            extra_files=(str(HANDLERS / "gpu_nets.py"),), force=True,
        )
    )  # fmt: skip


@contextmanager
def _server(store: Path) -> Iterator[tuple[str, str]]:
    """(management address, URL of Redis) of a server with the model `net`."""
    management = f"http://127.0.0.1:{free_port()}"
    lines = {
        "inference_address": f"http://127.0.0.1:{free_port()}", "management_address": management,
        "metrics_address": f"http://127.0.0.1:{free_port()}", "enable_grpc": "false",
    }  # fmt: skip
    config = store / "config.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    state = store / "state"
    command = [str(MARQ_VENV / "bin/marq"), "start", "--model-store", str(store), "--models", "net.mar"]
    command += ["--ts-config", str(config), "--disable-token-auth"]
    environment = {**os.environ, "MARQ_STATE_DIR": str(state), "MARQ_ENABLE_GRPC": "false"}
    tree = Tree(command, environment, store)
    try:
        _scale(management, 1)
        yield management, server_file.find(state).redis_url
    finally:
        tree.stop()


def _scale(management: str, replicas: int) -> None:
    """Returns when so many are ready. Raises TimeoutError."""
    query = {"min_worker": replicas, "max_worker": replicas, "synchronous": "true"}
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            answer = httpx.put(f"{management}/models/net", params=query, timeout=READY_TIMEOUT_S)
            if answer.status_code == 200:
                return
        except httpx.TransportError:  # not up yet
            pass
        time.sleep(0.2)
    raise TimeoutError(f"{replicas} replicas were not ready in time")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--small", action="store_true", help="narrow networks, to try it on a CPU")
    options = parser.parse_args()
    console, devices = Console(highlight=False), gpus.found().devices
    console.print(f"GPUs: {devices or 'none, so the networks run on the CPU: the figures say nothing'}")
    table = Table("network", "replicas", "rows/s", "of the bare loop")
    for kind, size in SIZES.items():
        width = size // 8 if options.small else size
        alone = bare(kind, width, options.batch, options.seconds)
        table.add_row(kind, "bare loop", f"{alone:,.0f}", "")
        with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
            pack(Path(directory), kind, width, options.batch)
            for replicas, rate in served(Path(directory), options.batch, options.seconds):
                table.add_row(kind, str(replicas), f"{rate:,.0f}", f"{rate / alone:.0%}")
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
