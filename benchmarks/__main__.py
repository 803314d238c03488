"""`python -m benchmarks`: measures, keeps the results, shows them."""

import argparse
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import jobs, load, machine, mosec_setup, options, plot, report, rounds, torchserve, workloads
from benchmarks.servers import MARQ_VENV, SERVERS, Marq, Mosec, ServerFailed, TorchServe

INTERRUPTED = 130
PLAIN_WIDTH = 120  # columns where the output is not a terminal


class NothingToMeasure(Exception):
    """Raised when no server is left."""


class Bench:
    """One run; everything measured so far is always on disk."""

    def __init__(self, args: argparse.Namespace, plan: rounds.Plan, console: Console) -> None:
        self._args, self._plan, self._console = args, plan, console
        generator, self._generate = load.generator()
        settings = {
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "concurrency": plan.concurrency,
            "workloads": [workload.name for workload in plan.workloads],
            "warmup_s": {name: plan.warmup_of(name) for name in plan.venvs},
        }
        about = machine.describe(plan.venvs, torchserve.java(), generator)
        self.results: report.Results = {
            "machine": about,
            "settings": settings,
            "loads": [],
            "memory": [],
            "jobs": [],
        }

    def run(self, archives: workloads.Archives) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        steps = self._plan.total_loads + self._job_runs
        with Progress(*columns, console=self._console, disable=not self._console.is_terminal) as progress:
            task = progress.add_task("loads", total=steps)

            def on_row(kind: str, row: dict[str, Any]) -> None:
                self._keep(kind, row)
                if kind == "loads":
                    progress.advance(task)

            rounds.run(self._plan, archives, self._generate, on_row)
            for number in range(1, self._job_runs + 1):
                self._keep("jobs", {"round": number, **self._jobs(archives)})
                progress.advance(task)

    @property
    def _job_runs(self) -> int:
        return self._plan.rounds if self._args.jobs and Marq.name in self._plan.venvs else 0

    def _jobs(self, archives: workloads.Archives) -> dict[str, Any]:
        try:
            return jobs.measure(archives, self._args.jobs)
        except (ServerFailed, jobs.JobsFailed, TimeoutError) as error:
            return {"problem": f"{type(error).__name__}: {error}"}

    def _keep(self, kind: str, row: dict[str, Any]) -> None:
        self.results[kind].append(row)
        report.save(self.results, self._args.out / "results.json")
        self._console.print(_describe(kind, row), markup=False)

    def show(self) -> None:
        """Writes the page and the figure, prints the tables."""
        out: Path = self._args.out
        (out / "results.md").write_text(report.markdown(self.results))
        plot.draw(report.cells(self.results), out / "results.png")
        self._console.print()
        self._console.print(report.load_table(self.results))
        for name in self._plan.venvs:
            if mb := report.memory_of(self.results, name):
                self._console.print(f"Memory of {name} without replicas: {mb:,.0f} MB (PSS)")
        for text, count, value in report.job_rows(self.results):
            self._console.print(f"Jobs ({count}): {value} {text}", markup=False)
        for problem in report.problems(self.results):
            self._console.print(f"Problem: {problem}", style="red", markup=False)
        self._console.print(f"Kept in {out}: results.json, results.md, results.png")


def _describe(kind: str, row: dict[str, Any]) -> str:
    if row.get("problem"):
        return f"  {row.get('workload', '')} {row.get('server', '')} {kind}: {row['problem']}"
    if kind == "jobs":
        return f"  jobs: {row['enqueue_per_s']:,}/s enqueued, {row['drain_per_s']:,}/s drained"
    where = f"  round {row['round']}  {row['workload']:<8} {row['server']:<16}"
    if kind == "memory":
        return f"{where} PSS {row['server_pss_mb']:,.0f} MB, started in {row['start_s']:.1f} s"
    return (
        f"{where} {row['concurrency']:>4} clients {row['rps']:>10,.1f}/s  "
        f"p50 {row['p50_ms']:.2f} ms  p99 {row['p99_ms']:.2f} ms  errors {row['errors']}"
    )


def make_plan(args: argparse.Namespace, console: Console) -> rounds.Plan:
    """Leaves servers out that cannot run here; makes the environments of the others."""
    others = [name for name in args.servers if issubclass(SERVERS[name], TorchServe)]
    venvs = {n: args.torchserve_venv.absolute() if n in others else MARQ_VENV for n in args.servers}
    if Mosec.name in venvs:
        venvs[Mosec.name] = args.mosec_venv.absolute()
        try:
            mosec_setup.install(args.mosec_venv)
        except subprocess.CalledProcessError:  # pip has said why
            console.print("[yellow]mosec cannot be installed here: it is left out.[/]")
            del venvs[Mosec.name]
    if others and not torchserve.java():
        console.print("[yellow]No Java on PATH: TorchServe is left out.[/]")
        venvs = {name: venv for name, venv in venvs.items() if name not in others}
    elif others and not torchserve.is_installed(args.torchserve_venv):
        with console.status("installing"):
            console.print(f"Installing TorchServe {torchserve.VERSION} into {args.torchserve_venv}")
            torchserve.install(args.torchserve_venv)
    if not venvs:
        raise NothingToMeasure("None of the chosen servers can run here.")
    return rounds.Plan(
        venvs,
        args.workloads,
        args.concurrency,
        args.rounds,
        args.seconds,
        args.warmup,
        args.large_concurrency,
    )


def main() -> int:
    args = options.parse()
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=PLAIN_WIDTH)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        plan = make_plan(args, console)
        bench = Bench(args, plan, console)
        console.print(
            f"[bold]{' and '.join(plan.venvs)}[/], about {max(1, round(plan.minutes))} min; Ctrl-C stops it"
        )
        with TemporaryDirectory(prefix="benchmark-") as directory:
            bench.run(workloads.pack(Path(directory)))
    except KeyboardInterrupt:
        console.print("Stopped; the measurements so far are in results.json.")
        return INTERRUPTED
    except (torchserve.InstallFailed, NothingToMeasure) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    bench.show()
    return 1 if report.problems(bench.results) else 0


if __name__ == "__main__":
    sys.exit(main())
