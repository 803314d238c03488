"""`python -m benchmarks.continuous`: steps/s of continuous batching behind a server, beside a bare loop.

The handler takes 1 ms for each live row of a step. All rows are predictions whose clients read their parts.
The bare loop calls the same handler in this process, without a server, in turns with the server's.
"""

import argparse
import json
import statistics
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx

from archive.packing.writer import ArchiveSpec, write
from benchmarks.handlers.steps import StepHandler
from benchmarks.servers import MARQ_VENV, Marq
from benchmarks.workloads import VERSION, Archives, Sample, Workload

HANDLER = Path(__file__).parent / "handlers/steps.py"
NAME = "steps"


def bare(rows: int, steps: int) -> float:
    """Steps/s of the handler in a loop."""
    handler, context = StepHandler(), SimpleNamespace(request_ids={}, stopping_criteria=None)
    handler.initialize(context)
    context.request_ids = {index: str(index) for index in range(rows)}
    data = [{"body": [steps, rows]} for _ in range(rows)]
    ended = False
    while not ended:
        answers = handler.handle(data, context)
        ended = [criterion(None) for criterion in context.stopping_criteria][-1]
        data = [{}] * rows
    return _rate(answers[-1])


def served(server: Marq, rows: int, steps: int) -> float:
    """Steps/s behind the server, with one client for each row."""
    ready = threading.Barrier(rows)

    def ask(_: int) -> str:
        ready.wait()
        answer = httpx.post(server.url, json=[steps, rows], timeout=600)
        return answer.raise_for_status().text

    with ThreadPoolExecutor(rows) as pool:
        return max(_rate(text) for text in pool.map(ask, range(rows)))


def _rate(answer: str) -> float:
    """The rate that a row's last part reports."""
    steps, seconds = json.loads(answer.rpartition("\n")[2])
    return float(steps / seconds) if seconds else 0.0


def _pack(store: Path, rows: int) -> Archives:
    config = store / "model-config.yaml"
    settings = {"continuousBatching": True, "batchSize": rows, "maxBatchDelay": 100, "batching": "fixed"}
    config.write_text(json.dumps(settings))
    write(
        ArchiveSpec(
            model_name=NAME, version=VERSION, handler=str(HANDLER), export_path=store, force=True,
            config_file=str(config),
        )
    )  # fmt: skip
    return Archives(store, {NAME: [Sample(b"[1, 1]", "\n[0, 0.0]")]})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.continuous", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 8, 32], help="live rows of a step")
    parser.add_argument("--steps", type=int, default=300, help="steps of each row")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args(arguments)
    for rows in given.rows:
        with tempfile.TemporaryDirectory() as store:
            archives = _pack(Path(store), rows)
            with Marq(MARQ_VENV, archives, Workload(NAME, rows)) as server:
                pairs = [
                    (bare(rows, given.steps), served(server, rows, given.steps)) for _ in range(given.rounds)
                ]
        loop, rate = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"{rows:3} live rows: {rate:7.1f} steps/s, bare loop {loop:7.1f}: {100 * rate / loop:.1f}%")
    return 0


if __name__ == "__main__":
    sys.exit(main())
