"""The command line of the benchmark."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import mosec_setup
from benchmarks.servers import SERVERS
from benchmarks.torchserve import DEFAULT_VENV
from benchmarks.workloads import KINDS, UnknownWorkload, Workload

VENV_VARIABLE, MOSEC_VARIABLE = "TORCHSERVE_VENV", "MOSEC_VENV"
OUT = Path(__file__).resolve().parent / "out"
DESCRIPTION = """\
Measures marq, TorchServe and mosec side by side, one after the other: the same archives, the same
config.properties.
"""
EPILOG = f"""\
a workload is an archive and a batchSize, such as noop1 or sleep32:
{chr(10).join(f"  {kind:<6} {text}" for kind, text in KINDS.items())}

examples:
  python -m benchmarks                                    all of it, about an hour
  python -m benchmarks --rounds 1 --seconds 1 --warmup 1  only to see that it runs
  python -m benchmarks --servers marq --workloads conv8   marq alone, on a model that needs the CPU
  python -m benchmarks --servers marq,torchserve,torchserve-quiet   TorchServe without its request log, too

Without Java, TorchServe is left out. How the figures are made: benchmarks/README.md
"""


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options; exits with a message for those that are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--servers",
        type=_list(_server),
        default="marq,torchserve,mosec",
        metavar="A,B",
        help=f"of {', '.join(SERVERS)}; default: %(default)s",
    )
    add(
        "--workloads",
        type=_list(_workload),
        default="noop1,noop32,sleep32,thumb1,photo1,scan1,report1,grpc1",
        metavar="A,B",
        help="see below; default: %(default)s",
    )
    add(
        "--concurrency",
        type=_list(_positive),
        default="1,8,64",
        metavar="N,M",
        help="clients at once; default: %(default)s",
    )
    add(
        "--large-concurrency",
        type=_list(_positive),
        default="1,4,8",
        metavar="N,M",
        help="the same for large bodies and answers; default: %(default)s",
    )
    add("--rounds", type=_positive, default=3, metavar="N", help="default: %(default)s")
    add("--seconds", type=_positive, default=4, metavar="N", help="of each load; default: %(default)s")
    add(
        "--warmup",
        type=float,
        metavar="S",
        help="seconds of load before measuring; default: 5 for marq, 20 for TorchServe's JVM",
    )
    add(
        "--jobs",
        type=int,
        default=60_000,
        metavar="N",
        help="jobs to queue and drain, once for each round; 0: none; default: %(default)s",
    )
    add(
        "--torchserve-venv",
        type=Path,
        default=Path(os.environ.get(VENV_VARIABLE) or DEFAULT_VENV),
        metavar="DIR",
        help=f"made on first use; default: {VENV_VARIABLE}, or {DEFAULT_VENV.name} here",
    )
    add(
        "--mosec-venv",
        type=Path,
        default=Path(os.environ.get(MOSEC_VARIABLE) or mosec_setup.DEFAULT_VENV),
        metavar="DIR",
        help=f"the same for mosec; default: {MOSEC_VARIABLE}",
    )
    add("--out", type=Path, default=OUT, metavar="DIR", help="results go there; default: benchmarks/out")
    return parser.parse_args(arguments)


def _list(parse_one: Callable[[str], Any]) -> Callable[[str], list[Any]]:
    return lambda text: [parse_one(part.strip()) for part in text.split(",") if part.strip()]


def _positive(text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number


def _server(text: str) -> str:
    if text not in SERVERS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(SERVERS)}")
    return text


def _workload(text: str) -> Workload:
    try:
        return Workload.parse(text)
    except UnknownWorkload as error:
        raise argparse.ArgumentTypeError(str(error)) from None
