"""Load on a server, and the check that its answers are right."""

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

from benchmarks import sockets
from benchmarks.workloads import Sample

POST_LUA = Path(__file__).with_name("post.lua")
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


@dataclass(frozen=True)
class Target:
    """What each request is."""

    url: str
    sample: Sample
    token: str = ""
    grpc: str = ""  # host:port: over gRPC instead
    model: str = ""  # of gRPC requests


Generator = Callable[[Target, int, float], Load]  # connections (of gRPC: calls in flight), seconds


def generator() -> tuple[str, Generator]:
    """(its name, itself): wrk where it is installed, else our own, which is slower."""
    if shutil.which("wrk"):
        return "wrk -t1", wrk
    return "asyncio client", own_client


def wrk(target: Target, connections: int, seconds: float) -> Load:
    """Raises LoadFailed."""
    if target.grpc:
        return grpc_client(target, connections, seconds)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
    command += ["-H", f"Authorization: Bearer {target.token}"] if target.token else []
    command += ["--timeout", f"{REQUEST_TIMEOUT_S}s", "-s", str(POST_LUA), target.url]
    with NamedTemporaryFile(prefix="benchmark-") as body:
        body.write(target.sample.body)
        body.flush()
        about = {"BODY_FILE": body.name, "CONTENT_TYPE": target.sample.content_type}
        return _load_of("wrk", command, seconds, about)


def grpc_client(target: Target, calls: int, seconds: float) -> Load:
    """The same Python client for every server, in a process of its own. Raises LoadFailed."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.grpc_load",
        target.grpc,
        target.model,
        str(calls),
        str(seconds),
    ]
    return _load_of("the gRPC client", command, seconds, {"BODY": target.sample.body.decode()})


def _load_of(name: str, command: list[str], seconds: float, variables: dict[str, str]) -> Load:
    """The load of a command whose last line is JSON."""
    environment = {**os.environ, **variables}
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, env=environment)
    if done.returncode:
        raise LoadFailed(f"{name} ended with {done.returncode}: {done.stderr or done.stdout}")
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    return Load(
        good=summary["requests"] - summary["status_errors"],
        errors=summary["status_errors"] + summary["socket_errors"],
        seconds=summary["duration"] / 1e6,
        p50_ms=summary["p50"] / 1000,
        p99_ms=summary["p99"] / 1000,
    )


def own_client(target: Target, connections: int, seconds: float) -> Load:
    if target.grpc:
        return grpc_client(target, connections, seconds)
    sample = target.sample
    times, errors, took = sockets.run(
        target.url, sample.body, connections, seconds, target.token, sample.content_type
    )
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
        headers = {"Content-Type": sample.content_type}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST", parts.path, sample.body, headers)
        response = connection.getresponse()
        return sample.problem(response.status, response.read())
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        connection.close()
