"""The workloads as a mosec server; runs in mosec's own environment, which has nothing of marq."""

import os
import time
import zlib
from typing import Any

from mosec import Server, Worker

KIND, BATCH, DELAY_MS = (
    os.environ["BENCH_KIND"],
    int(os.environ["BENCH_BATCH"]),
    int(os.environ["BENCH_DELAY_MS"]),
)
RAW = ("thumb", "photo", "scan")  # bodies that are not JSON
REPORT = "r" * 1_000_000


class Bench(Worker):  # type: ignore[misc]
    def deserialize(self, data: bytes) -> Any:
        return data if KIND in RAW else super().deserialize(data)

    def serialize(self, data: str) -> bytes:
        return data.encode()

    def forward(self, data: Any) -> Any:
        return _run(data) if BATCH > 1 else _run([data])[0]


def _run(rows: list[Any]) -> list[str]:
    if KIND in RAW:
        return [f"{len(body)} {zlib.crc32(body):08x}" for body in rows]
    if KIND == "sleep":
        time.sleep(0.02)
    return [REPORT if KIND == "report" else "OK"] * len(rows)


if __name__ == "__main__":
    server = Server()
    server.append_worker(Bench, num=1, max_batch_size=BATCH, max_wait_time=DELAY_MS, timeout=60)
    server.run()
