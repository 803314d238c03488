"""`python -m benchmarks.workflows`: runs/s of a chain of three no-op models, marq beside TorchServe.

Also the latency that one more node adds, beside that of a prediction, with one client at a time, and the CPU
time of marq's processes for each run.
Both serve the same `.war` files.
"""

import argparse
import os
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from archive.packing import workflow
from benchmarks import torchserve
from benchmarks.load import Generator, Target, generator, verify
from benchmarks.options import VENV_VARIABLE
from benchmarks.processes import Roles
from benchmarks.servers import MARQ_VENV, Marq, Server, ServerFailed, TorchServe
from benchmarks.workloads import Archives, Workload, pack

CHAINS = {"chain1": 1, "chain3": 3}  # workflow -> nodes
OF_A_RUN = ("redis", "gateway", "replica")  # roles of marq's processes that a run passes
ATTEMPTS = 3  # of a round: TorchServe sometimes leaves the first requests of a workflow unanswered
UNUSED = "def unused(data, context):\n    return data\n"  # TorchServe needs a handler file
Figures = dict[str, float]


def pack_chains(directory: Path, store: Path, batch: int) -> None:
    """Writes the workflow archives; their nodes are the no-op model of the other benchmarks."""
    handler = directory / "functions.py"
    handler.write_text(UNUSED)
    for name, length in CHAINS.items():
        nodes = [f"node{number}" for number in range(length)]
        settings = (
            f"models:\n  max-workers: 1\n  batch-size: {batch}\n  max-batch-delay: 5\n  timeout-ms: 60000\n"
        )
        models = "".join(f"  {node}: {{url: noop.mar}}\n" for node in nodes)
        after = [*([node] for node in nodes[1:]), []]
        edges = "".join(f"  {node}: {followers}\n" for node, followers in zip(nodes, after, strict=True))
        spec = directory / f"{name}.yaml"
        spec.write_text(f"{settings}{models}dag:\n{edges}".replace("'", ""))
        workflow.write(workflow.WorkflowSpec(name, str(spec), str(handler), export_path=store, force=True))


def measure(server: Server, load: Generator, connections: int, seconds: float, warmup: float) -> Figures:
    """Runs/s of the long chain; p50 of a prediction and of both chains with one client, in ms.

    Also the CPU time of marq's processes for each run, in µs.
    """
    targets = {"prediction": server.target} | {name: _registered(server, name) for name in CHAINS}
    for target in targets.values():
        if problem := verify(target.url, server.samples):
            raise ServerFailed(f"{server.name}, {target.url}: {problem}")
    load(targets["chain3"], connections, warmup)
    roles = Roles(server.tree)
    loaded = load(targets["chain3"], connections, seconds)
    used = roles.read()
    if loaded.errors:
        raise ServerFailed(f"{server.name}: {loaded.errors} of its runs have failed")
    cpu_us = {role: 1e6 * used[role] / loaded.good for role in OF_A_RUN if role in used}
    alone = {name: load(target, 1, seconds).p50_ms for name, target in targets.items()}
    return {"runs_per_s": loaded.rps, "p99_ms": loaded.p99_ms, **alone, **cpu_us}


def _registered(server: Server, name: str) -> Target:
    query = {"url": f"{name}.war"}
    httpx.post(f"{server.management}/workflows", params=query, timeout=300).raise_for_status()
    return replace(server.target, url=f"{server.inference}/wfpredict/{name}")


def report(name: str, found: list[Figures]) -> Figures:
    """Prints the medians of a server's rounds, and returns them."""
    median = {key: statistics.median(each[key] for each in found) for key in found[0]}
    node = (median["chain3"] - median["chain1"]) / (CHAINS["chain3"] - CHAINS["chain1"])
    print(
        f"{name}: {median['runs_per_s']:,.0f} runs/s of 3 nodes (p99 {median['p99_ms']:.1f} ms)\n"
        f"  p50 alone: prediction {median['prediction']:.2f} ms, 1 node {median['chain1']:.2f} ms, "
        f"3 nodes {median['chain3']:.2f} ms\n"
        f"  one more node: {node:.2f} ms, {node / median['prediction']:.2f} times a prediction"
    )
    if cpu := [f"{role} {median[role]:.0f} µs" for role in OF_A_RUN if role in median]:
        print(f"  CPU time of a run: {', '.join(cpu)}")
    return median


def main(arguments: list[str] | None = None) -> int:
    given = _options(arguments)
    kinds: dict[type[Server], Path] = {Marq: MARQ_VENV}
    if torchserve.java():
        if not torchserve.is_installed(given.torchserve_venv):
            torchserve.install(given.torchserve_venv)
        kinds[TorchServe] = given.torchserve_venv
    else:
        print("Without Java, marq is measured alone.")
    load_name, load = generator()
    print(f"{given.connections} connections, batch size {given.batch}, load by {load_name}")
    found: dict[str, list[Figures]] = {kind.name: [] for kind in kinds}
    with TemporaryDirectory(prefix="benchmark-") as directory:
        archives = pack(Path(directory))
        pack_chains(Path(directory), archives.store, given.batch)
        for number in range(given.rounds):
            for kind, venv in kinds.items():
                figures = _round(kind, venv, archives, given, load)
                print(f"round {number + 1}, {kind.name}: {figures['runs_per_s']:,.0f} runs/s", flush=True)
                found[kind.name].append(figures)
    medians = {name: report(name, rows) for name, rows in found.items()}
    if len(medians) > 1:
        marq, other = (medians[kind.name]["runs_per_s"] for kind in (Marq, TorchServe))
        print(f"marq: {marq / other:.2f} times the runs/s of TorchServe")
    return 0


def _round(
    kind: type[Server],
    venv: Path,
    archives: Archives,
    given: argparse.Namespace,
    load: Generator,
    attempts: int = ATTEMPTS,
) -> Figures:
    warmup = kind.warmup_s if given.warmup is None else given.warmup
    try:
        with kind(venv, archives, Workload("noop", given.batch)) as server:
            return measure(server, load, given.connections, given.seconds, warmup)
    except ServerFailed as error:
        if kind is not TorchServe or attempts == 1:
            raise
        print(f"started again: {error}", flush=True)
        return _round(kind, venv, archives, given, load, attempts - 1)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workflows", description=__doc__)
    add = parser.add_argument
    add("--connections", type=int, default=64, help="default: %(default)s")
    add("--batch", type=int, default=1, help="maximum batch size of each node; default: %(default)s")
    add("--rounds", type=int, default=3, help="default: %(default)s")
    add("--seconds", type=int, default=4, help="of each load; default: %(default)s")
    add("--warmup", type=float, help="seconds of load before; default: 5 for marq, 20 for TorchServe's JVM")
    venv = Path(os.environ.get(VENV_VARIABLE) or torchserve.DEFAULT_VENV)
    add("--torchserve-venv", type=Path, default=venv, help=f"made on first use; default: {VENV_VARIABLE}")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
