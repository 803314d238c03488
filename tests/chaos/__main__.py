"""`python tests/chaos [--short] [CASE ...]`: tries to break marq, and prints what became of each request.

Exit code 1 if anything was lost, duplicated, or otherwise not as it should be.
"""

import argparse
import asyncio
import dataclasses
import signal
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "shared"))

import suite
from ledger import Ledger, table
from scale import FULL, SHORT, Scale
from stage import Stage


def parse() -> argparse.Namespace:
    names = [*suite.CASES, *suite.LONG, *suite.DURABLE, *suite.ALONE]
    parser = argparse.ArgumentParser(prog="python tests/chaos", description=f"Cases: {', '.join(names)}.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all if none is named")
    parser.add_argument("--short", action="store_true", help="a few seconds for each case")
    parser.add_argument("--soak-s", type=float, help="length of the soak in seconds")
    given = parser.parse_args()
    if unknown := set(given.cases) - set(names):
        parser.error(f"unknown case {', '.join(sorted(unknown))}; there are: {', '.join(names)}")
    given.cases = given.cases or names
    return given


async def run_all(wanted: list[str], scale: Scale, directory: Path) -> list[Ledger]:
    ledgers: list[Ledger] = []

    def note(ledger: Ledger) -> None:
        ledgers.append(ledger)
        tell(f"{'ok    ' if ledger.is_clean else 'FAILED'} {ledger.case} ({ledger.seconds:.0f} s)")

    for start, cases in ((Stage.start, suite.CASES | suite.LONG), (suite.start_durable, suite.DURABLE)):
        if shared := {name: case for name, case in cases.items() if name in wanted}:
            stage = await asyncio.to_thread(start, _made(directory / start.__name__))
            try:
                for name, case in shared.items():
                    note(await suite.run(name, case, stage, scale))
            finally:
                await asyncio.to_thread(stage.server.stop)
    for name, run in suite.ALONE.items():
        if name in wanted:
            note(await run(_made(directory / name.replace(" ", "-")), scale))
    return ledgers


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    # A shell's background jobs ignore Ctrl-C, and so would the servers, which are stopped by it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = parse()
    scale = SHORT if given.short else FULL
    if given.soak_s:
        scale = dataclasses.replace(scale, soak_s=given.soak_s)
    with tempfile.TemporaryDirectory(prefix="marq-chaos-", ignore_cleanup_errors=True) as directory:
        ledgers = asyncio.run(run_all(given.cases, scale, Path(directory)))
    tell(f"\n{table(ledgers)}")
    return 0 if all(ledger.is_clean for ledger in ledgers) else 1


if __name__ == "__main__":
    sys.exit(main())
