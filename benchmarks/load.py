"""Load on a server, and the check that its answers are right."""

import http.client
import json
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks import sockets
from benchmarks.workloads import Sample

POST_LUA = Path(__file__).with_name("post.lua")
JSON = {"Content-Type": "application/json"}
REQUEST_TIMEOUT_S = 30


class LoadFailed(Exception):
    """Raised when the load generator does not work."""


@dataclass(frozen=True)
class Load:
    """The result of closed loops over a number of connections. Errors do not count as throughput."""

    good: int
    errors: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def rps(self) -> float:
        return self.good / self.seconds


Generator = Callable[[str, int, float, str], Load]  # URL, connections, seconds, token or nothing


def generator() -> tuple[str, Generator]:
    """(its name, itself): wrk where it is installed, else our own, which is slower."""
    if shutil.which("wrk"):
        return "wrk -t1", wrk
    return "asyncio client", own_client


def wrk(url: str, connections: int, seconds: float, token: str) -> Load:
    """Raises LoadFailed."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command += ["-H", f"Authorization: Bearer {token}"] if token else []
    command += ["--timeout", f"{REQUEST_TIMEOUT_S}s", "-s", str(POST_LUA), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise LoadFailed(f"wrk ended with {done.returncode}: {done.stderr or done.stdout}")
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    return Load(
        good=summary["requests"] - summary["status_errors"],
        errors=summary["status_errors"] + summary["socket_errors"],
        seconds=summary["duration"] / 1e6,
        p50_ms=summary["p50"] / 1000,
        p99_ms=summary["p99"] / 1000,
    )


def own_client(url: str, connections: int, seconds: float, token: str) -> Load:
    times, errors, took = sockets.run(url, b'{"x": 1}', connections, seconds, token)
    times.sort()
    p50, p99 = (times[int(len(times) * share)] * 1000 if times else 0.0 for share in (0.50, 0.99))
    return Load(len(times), errors, took, p50, p99)


def verify(url: str, samples: list[Sample], token: str = "") -> str:
    """Sends different requests at once, so that they share batches; returns the fault, or an empty text."""
    with ThreadPoolExecutor(len(samples)) as threads:
        problems = list(threads.map(lambda sample: verify_one(url, sample, token), samples))
    return next(filter(None, problems), "")


def verify_one(url: str, sample: Sample, token: str = "", timeout_s: float = REQUEST_TIMEOUT_S) -> str:
    """The fault of the answer to one request; empty if it is right."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        headers = {**JSON, "Authorization": f"Bearer {token}"} if token else JSON
        connection.request("POST", parts.path, sample.body, headers)
        response = connection.getresponse()
        return sample.problem(response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
