"""Shows marq at work: three ways to send digits, a replica killed in the middle, a clean stop.

python examples/digits/demo.py        (or: make demo)
"""

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pack
import train
from load import Answer, OnAnswer, Sender
from report import Outcome, Report
from server import Server, ServerFailed
from truth import Truth

REPLICAS = 2
PREDICTION_PASSES, JOB_PASSES, PRODUCER_PASSES = 8, 5, 24  # over the held-out images
CRASH_PREDICTION_PASSES, CRASH_JOB_PASSES = 5, 2
KILL_AFTER = 0.4  # of the answers of the second run

TITLE = "marq demo: handwritten digits"
EXPLANATION = (
    "A small network learns to read digits, is packed as a TorchServe archive, and is served by two\n"
    "replicas. Every request goes through a Redis stream, however it was sent."
)
NOTE = (
    "As the senders saw it, on the cores that the server uses too.\n"
    "The producer queues all its jobs at once: its times are a backlog's."
)


class Killer:
    """Counts answers, and kills a replica when there are so many."""

    def __init__(self, pid: int, after: int, on_answer: OnAnswer) -> None:
        self.pid, self.after = pid, after
        self._on_answer = on_answer
        self._answers = 0
        self._killed = 0.0

    def on_answer(self) -> None:
        self._answers += 1
        if self._answers == self.after:
            os.kill(self.pid, signal.SIGKILL)
            self._killed = time.perf_counter()
        self._on_answer()

    @property
    def since_s(self) -> float:
        """How long ago the replica was killed."""
        return time.perf_counter() - self._killed


@dataclass(frozen=True)
class Demo:
    """A running server, what is sent to it, and what must come back."""

    report: Report
    server: Server
    sender: Sender
    truth: Truth

    def three_ways(self) -> None:
        outcomes = [
            self._run("HTTP predictions", PREDICTION_PASSES, _in_loop(self.sender.predictions)),
            self._run("HTTP jobs", JOB_PASSES, _in_loop(self.sender.jobs)),
            self._run("marq.Client producer", PRODUCER_PASSES, self.sender.produce),
        ]
        self.report.table(outcomes, NOTE)

    def _run(self, way: str, passes: int, send: Callable) -> Outcome:
        """Sends all images so many times, and checks every answer."""
        order = self._order(passes)
        requests, batches = self.server.counts(0)
        with self.report.progress(way, len(order)) as on_answer:
            began = time.perf_counter()
            answers = send(order, on_answer)
            seconds = time.perf_counter() - began
        now = self.server.counts(requests + len(order))
        problems = self.truth.problems(answers, passes)
        self.report.check(not problems, f"{way}: every answer is the model's own", f"{way}: {problems}")
        batch = (now[0] - requests) / (now[1] - batches)
        return Outcome(way, answers, self.truth.accuracy(answers), seconds, batch)

    def crash(self) -> None:
        """Kills a replica while predictions and jobs are on their way."""
        passes = CRASH_PREDICTION_PASSES + CRASH_JOB_PASSES
        total = len(self._order(passes))
        with self.report.progress("predictions and jobs", total) as on_answer:
            killer = Killer(self.server.replica_pids()[0], int(total * KILL_AFTER), on_answer)
            answers = asyncio.run(self._send_both(killer.on_answer))
        self.report.say(f"replica {killer.pid} was killed (SIGKILL) after {killer.after:,} answers")
        problems = self.truth.problems(answers, passes)
        slowest = max(answer.seconds for answer in answers)
        self.report.check(
            not problems,
            f"all {total:,} answers arrived and are right; the slowest took {slowest:.2f} s",
            f"after the crash: {problems}",
        )
        self._check_replacement(killer)

    async def _send_both(self, on_answer: OnAnswer) -> list[Answer]:
        answers = await asyncio.gather(
            self.sender.predictions(self._order(CRASH_PREDICTION_PASSES), on_answer),
            self.sender.jobs(self._order(CRASH_JOB_PASSES), on_answer),
        )
        return list(itertools.chain(*answers))

    def _check_replacement(self, killer: Killer) -> None:
        self.server.wait_until_ready(REPLICAS)
        self.report.check(
            killer.pid not in self.server.replica_pids(),
            f"another replica has taken its place (ready within {killer.since_s:.1f} s)",
            f"replica {killer.pid} was not replaced",
        )

    def stop(self) -> None:
        code, left = self.server.stop()
        text = "the server stopped on Ctrl-C with exit code"
        self.report.check(code == 0, f"{text} 0", f"{text} {code}")
        self.report.check(not left, "no process is left", f"processes were left: {left}")

    def _order(self, passes: int) -> list[int]:
        """The numbers of all images, so many times."""
        return list(range(len(self.truth.held_out))) * passes


def _in_loop(send: Callable) -> Callable:
    """An asynchronous way of sending, as a plain function."""
    return lambda order, on_answer: asyncio.run(send(order, on_answer))


def prepare(report: Report, server: Server) -> Truth:
    """Trains the network and packs it into the server's model store."""
    train.limit_threads()
    with report.step("trained a network and packed digits.mar"):
        training, held_out = train.load()
        network = train.train(training)
        server.store.mkdir()
        pack.pack(network, server.store)
    truth = Truth.of(network, held_out)
    report.say(f"the model itself reads {truth.own_accuracy:.2%} of {len(held_out)} held-out digits right")
    return truth


def run(report: Report, directory: Path) -> None:
    """The whole demo. Raises ServerFailed."""
    report.title(TITLE, EXPLANATION)
    server = Server(directory, pack.NAME)
    truth = prepare(report, server)
    try:
        with report.step(f"started marq with {REPLICAS} replicas"):
            server.start()
            server.wait_until_ready(REPLICAS)
        sender = Sender(server.inference, server.redis_url, pack.NAME, truth.held_out.images)
        demo = Demo(report, server, sender, truth)
        demo.three_ways()
        demo.crash()
        demo.stop()
    finally:
        server.stop()


def main() -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    report = Report()
    with TemporaryDirectory(prefix="marq-demo-") as directory:
        try:
            run(report, Path(directory))
        except ServerFailed as error:
            report.check(False, str(error))
        except KeyboardInterrupt:
            report.check(False, "the demo was interrupted")
    return report.verdict()


if __name__ == "__main__":
    sys.exit(main())
