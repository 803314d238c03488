"""What registered models cost a server that has nothing to do, and the lists that name them all."""

import time

import httpx

from benchmarks.idle import registered
from benchmarks.processes import Roles, pss_mb, role_of

SETTLE_S, REPEATS = 5.0, 10


def measure(models: int, seconds: float) -> dict[str, float]:
    """With so many registered models and not one replica."""
    with registered(models) as server:
        time.sleep(SETTLE_S)
        roles, began = Roles(server.tree), time.monotonic()
        time.sleep(seconds)
        used, took = roles.read(), time.monotonic() - began
        gateways = pss_mb(server.tree.processes(), lambda process: role_of(process) == "gateway")
        listed = least_ms(f"{server.management}/models?limit={models}")
        scraped = least_ms(f"{server.metrics}/metrics")
    idle = {f"{role}, % of a core": 100 * used[role] / took for role in ("gateway", "node", "redis")}
    return {**idle, "gateways, MB": gateways, "GET /models, ms": listed, "GET /metrics, ms": scraped}


def least_ms(url: str) -> float:
    """The fastest of some answers."""
    times = []
    with httpx.Client(timeout=60) as client:
        for _ in range(REPEATS):
            began = time.perf_counter()
            client.get(url).raise_for_status()
            times.append(1000 * (time.perf_counter() - began))
    return min(times)
