"""The workloads: archives, and the right answers."""

import importlib
import json
import random
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from archive.packing.writer import ArchiveSpec, write

HANDLERS = Path(__file__).resolve().parent / "handlers"
KINDS = {
    "noop": "the handler answers OK at once",
    "sleep": "the handler takes 20 ms for a batch of any size",
    "conv": "a small convolutional network on the CPU",
    "thumb": "a body of 100 kB; the answer is its length and its CRC-32",
    "photo": "the same with 1 MB",
    "scan": "the same with 6 MB",
    "report": "an answer of 1 MB to a small body",
    "grpc": "noop over TorchServe's gRPC interface",
}
BODY_BYTES = {"thumb": 100_000, "photo": 1_000_000, "scan": 6_000_000}
REPORT_BYTES = 1_000_000
LARGE = {*BODY_BYTES, "report"}
HANDLER_OF = {"thumb": "blob", "photo": "blob", "scan": "blob", "grpc": "noop"}  # else the kind's own
VERSION = "1.0"
SAMPLES = range(1, 9)
TOLERANCE = 1e-3


class UnknownWorkload(ValueError):
    """Raised for an unknown workload."""


@dataclass(frozen=True)
class Workload:
    """An archive with a batch size, such as `sleep32`."""

    kind: str
    batch: int

    @property
    def name(self) -> str:
        return f"{self.kind}{self.batch}"

    @property
    def is_large(self) -> bool:
        """Whether its bodies or answers are: a few connections fill the machine then."""
        return self.kind in LARGE

    @classmethod
    def parse(cls, name: str) -> "Workload":
        """Raises UnknownWorkload."""
        match = re.fullmatch(r"([a-z]+)([1-9]\d*)", name)
        if not match or match[1] not in KINDS:
            raise UnknownWorkload(f"{name!r} is not a workload: write {', '.join(KINDS)} and a batch size")
        return cls(match[1], int(match[2]))


@dataclass(frozen=True)
class Sample:
    """A request's body with the right answer."""

    body: bytes
    answer: Any
    content_type: str = "application/json"

    def problem(self, status: int, body: bytes) -> str:
        """The fault of an answer; empty if it is right."""
        if status != 200:
            return f"status {status}: {body[:200]!r}"
        return "" if self._is_right(body) else f"wanted {self.answer!r}, got {body[:200]!r}"

    def _is_right(self, body: bytes) -> bool:
        if isinstance(self.answer, str):
            return body.decode(errors="replace") == self.answer
        try:
            given = json.loads(body)
            pairs = list(zip(given, self.answer, strict=True))
        except (ValueError, TypeError):
            return False
        return all(abs(a - b) < TOLERANCE for a, b in pairs)


@dataclass(frozen=True)
class Archives:
    """The archives of all kinds in one model store, and samples for each kind."""

    store: Path
    samples: dict[str, list[Sample]]


def pack(directory: Path) -> Archives:
    """Writes the archives; the same files go to every server."""
    conv_net = importlib.import_module("benchmarks.handlers.conv_net")
    torch.manual_seed(0)
    network = conv_net.ConvNet().eval()
    weights = directory / "conv.pth"
    torch.save(network.state_dict(), weights)
    store = directory / "store"
    store.mkdir()
    for kind in KINDS:
        model: dict[str, Any] = {}
        if kind == "conv":
            model = {"model_file": str(HANDLERS / "conv_net.py"), "serialized_file": str(weights)}
        handler = str(HANDLERS / f"{HANDLER_OF.get(kind, kind)}.py")
        write(ArchiveSpec(model_name=kind, version=VERSION, handler=handler, export_path=store, **model))
    with torch.inference_mode():
        scores = network(torch.stack([conv_net.image(x) for x in SAMPLES])).tolist()
    plain = [Sample(_body(x), "OK") for x in SAMPLES]
    conv = [Sample(_body(x), row) for x, row in zip(SAMPLES, scores, strict=True)]
    samples = {"noop": plain, "sleep": plain, "grpc": plain, "conv": conv}
    samples["report"] = [Sample(_body(x), "r" * REPORT_BYTES) for x in SAMPLES]
    return Archives(store, samples | {kind: _large(size) for kind, size in BODY_BYTES.items()})


def _large(size: int) -> list[Sample]:
    bodies = [random.Random(x).randbytes(size) for x in SAMPLES]
    return [Sample(body, f"{size} {zlib.crc32(body):08x}", "application/octet-stream") for body in bodies]


def _body(x: int) -> bytes:
    return json.dumps({"x": x}).encode()
