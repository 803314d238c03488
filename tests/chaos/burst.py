"""Case: many times more requests at once than may be queued."""

import asyncio
import json
from collections import Counter

import psutil
from archives import JOB_LIMIT, LIMIT
from http_client import Broken, Client, Response
from ledger import Ledger
from scale import Scale
from stage import Stage, memory

BODY_BYTES = 10_000
BOUND_BYTES = 64 << 20  # what a burst may add to the memory of Redis, and of each gateway
REFUSALS = {"/predictions/limited": 503, "/jobs/limited": 429}


async def burst(stage: Stage, scale: Scale) -> Ledger:
    """What is over the limits is refused, the rest is answered, and memory stays within its bound."""
    await stage.until_ready("limited")
    burst = _Burst(stage, scale.burst * LIMIT)
    before = peak = stage.redis_memory(), _largest(stage.gateways)
    paths = ["/predictions/limited"] * (scale.burst * LIMIT) + ["/jobs/limited"] * scale.job_burst
    requests = asyncio.gather(*(burst.send(path, next(stage.numbers)) for path in paths))
    while not requests.done():
        peak = max(peak[0], stage.redis_memory()), max(peak[1], _largest(stage.gateways))
        await asyncio.sleep(0.1)
    await requests
    burst.check()
    ledger, bound = burst.ledger, f"{BOUND_BYTES >> 20} MiB"
    grown = [most - first for first, most in zip(before, peak, strict=True)]
    told = f"Redis +{grown[0] / 2**20:.1f} MiB, a gateway +{grown[1] / 2**20:.1f} MiB; each may take {bound}"
    ledger.notes.append(told)
    if max(grown) > BOUND_BYTES:
        ledger.complain(f"a process grew by more than {bound}")
    return ledger


class _Burst:
    """`most`: requests that are sent at the same time."""

    def __init__(self, stage: Stage, most: int) -> None:
        self.ledger = Ledger()
        self._client, self._room = Client(stage.server.inference), asyncio.Semaphore(most)
        self._accepted, self._refused = Counter[str](), Counter[str]()

    async def send(self, path: str, number: int) -> None:
        body = f"{number}{' ' * BODY_BYTES}".encode()
        try:
            async with self._room:
                response = await self._client.request("POST", path, body)
            if response.is_refusal and response.status == REFUSALS[path]:
                self._refused[path] += 1
                self.ledger.refuse(response.told)
                return
            self._accepted[path] += 1
            self.ledger.accepted += 1
            if response.status == 202:
                job = json.loads(response.body)["job_id"]
                response = await self._client.request("GET", f"/jobs/{job}/result?wait=50")
        except (Broken, TimeoutError) as error:
            self.ledger.lose(f"{path} {number}: {error!r}")
            return
        self._judge(path, number, response)

    def _judge(self, path: str, number: int, response: Response) -> None:
        if (response.status, response.body.rstrip()) == (200, str(number**2).encode()):
            self.ledger.right += 1
        else:
            self.ledger.lose(f"{path} {number}: {response.told}")

    def check(self) -> None:
        """Refused is what is over the limits, and not what is below them."""
        self._client.close()
        self.ledger.duplicated += self._client.strays
        for path, status in REFUSALS.items():
            if not self._refused[path]:
                self.ledger.complain(f"{path}: nothing was refused with {status}")
        predictions, all_accepted = self._accepted["/predictions/limited"], self._accepted.total()
        if predictions < LIMIT or all_accepted < JOB_LIMIT:  # which counts predictions, too
            self.ledger.complain(f"only {predictions} predictions, {all_accepted} requests were accepted")


def _largest(processes: list[psutil.Process]) -> int:
    return max((memory([process]) for process in processes), default=0)
