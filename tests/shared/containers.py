"""Docker as the container tests use it, and clients that load a server and remember what it accepted."""

import json
import logging
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

log = logging.getLogger("compose")

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "deploy" / "docker-compose.yml"
# As the compose file gives them, so that one build finds the layers of the other.
BUILD_ARGUMENTS = {"PIP_INDEX_URL": "", "PIP_EXTRA_INDEX_URL": ""} | {
    name: os.environ[name]
    for name in (
        *("BASE_IMAGE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"),
        *("TORCH_INDEX_URL", "WORKER_PACKAGES"),
    )
    if name in os.environ
}
BUILD_TIMEOUT_S = 1800.0
# A handler: the square of each number.
SQUARE = """
import time


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    time.sleep(0.15)
    print(f"squared {len(data)}")
    return [int(row["body"]) ** 2 for row in data]
"""


def docker(*arguments: str | Path, timeout_s: float = 120.0) -> str:
    """What a docker command prints; fails the test, with its output, if it fails."""
    return run(["docker", *map(str, arguments)], timeout_s)


def run(command: list[str], timeout_s: float, environment: dict[str, str] | None = None) -> str:
    log.info("$ %s", " ".join(each[:12] if len(each) == 64 else each for each in command))  # ids are long
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    )
    return done.stdout.strip()


def missing() -> str:
    """Why there is no Docker here; empty: there is."""
    if not shutil.which("docker"):
        return "there is no `docker` command"
    if not compose_command():
        return "there is neither `docker compose` nor `docker-compose`"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True)
    host = os.environ.get("DOCKER_HOST", "the default address")
    return f"no Docker engine answers at {host}: {done.stderr.strip()}" if done.returncode else ""


def compose_command() -> list[str]:
    """`docker compose`, else the older `docker-compose`; empty: neither is there."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


def free_range(length: int) -> str:
    """So many ports in a row that nobody uses now, as `from-to`."""
    while True:
        first = 20000 + secrets.randbelow(12000)
        with socket.socket() as probe:
            if all(probe.connect_ex(("127.0.0.1", first + n)) for n in range(length)):
                return f"{first}-{first + length - 1}"


def inspect(container: str) -> dict[str, Any]:
    """All that Docker knows of a container; not logged, as it is asked again and again."""
    done = subprocess.run(["docker", "inspect", container], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    return found


def wait_until_healthy(containers: list[str], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        states = {each: inspect(each)["State"] for each in containers}
        health = {each: state.get("Health", {}).get("Status", "none") for each, state in states.items()}
        if all(status == "healthy" for status in health.values()):
            return
        if time.monotonic() > deadline:
            logs = "\n".join(docker("logs", "--tail", "30", each) for each in containers)
            raise AssertionError(f"not healthy after {timeout_s} s: {states}\n{logs}")
        time.sleep(2)


@dataclass
class Project:
    """The services of a compose file under a name, ports and images of their own."""

    name: str
    environment: dict[str, str]
    file: Path = COMPOSE_FILE

    def compose(self, *arguments: str, timeout_s: float = 120.0) -> str:
        command = [*compose_command(), "--project-name", self.name, "--file", str(self.file), *arguments]
        return run(command, timeout_s, {**os.environ, **self.environment})

    def up(self, gateways: int, workers: int) -> None:
        """Starts what does not run, and waits until all of it is healthy."""
        scale = ["--scale", f"gateway={gateways}", "--scale", f"worker={workers}"]
        self.compose("up", "--detach", "--no-recreate", *scale, timeout_s=300)
        wait_until_healthy(
            [each for name in ("redis", "gateway", "worker") for each in self.containers(name)]
        )

    def containers(self, service: str) -> list[str]:
        """Those of a service that run."""
        listed = self.compose("ps", "--quiet", service).split()
        return [each for each in listed if inspect(each)["State"]["Running"]]

    def in_gateway(self, *command: str) -> str:
        return docker("exec", self.containers("gateway")[0], *command)

    def tokens(self) -> dict[str, Any]:
        """As an operator reads them."""
        read: dict[str, Any] = json.loads(self.in_gateway("cat", "key_file.json"))
        return read

    def down(self) -> None:
        self.compose("down", "--volumes", "--remove-orphans", timeout_s=300)


def published(container: str, port: int) -> str:
    """The URL of a container's port on this host."""
    (binding, *_) = inspect(container)["NetworkSettings"]["Ports"][f"{port}/tcp"]
    return f"http://127.0.0.1:{binding['HostPort']}"


@dataclass
class Load:
    """Clients that square numbers through several gateways until they are stopped.

    Half of them predict, half submit jobs; a client whose connection fails goes on with the next gateway.
    """

    gateways: list[str]
    headers: dict[str, str]
    jobs: dict[str, int] = field(default_factory=dict)  # accepted: id -> the number that was sent
    accepted: Counter[str] = field(default_factory=Counter)  # gateway -> its accepted jobs
    predicted: Counter[str] = field(default_factory=Counter)  # gateway -> its right answers
    lost: Counter[str] = field(default_factory=Counter)  # gateway -> connections that failed
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, clients: int) -> None:
        for number in range(clients):
            send = self._predict if number % 2 else self._submit
            self._threads.append(threading.Thread(target=self._run, args=(send, number), daemon=True))
            self._threads[-1].start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, send: Any, number: int) -> None:
        with httpx.Client(headers=self.headers, timeout=60) as client:
            while not self._stop.is_set():
                number += 1
                gateway = self.gateways[number % len(self.gateways)]
                try:
                    send(client, gateway, number)
                except httpx.TransportError:
                    self.lost[gateway] += 1
                time.sleep(0.005)

    def _predict(self, client: httpx.Client, gateway: str, number: int) -> None:
        answer = client.post(f"{gateway}/predictions/square", content=str(number))
        if (answer.status_code, answer.text) == (200, str(number**2)):
            self.predicted[gateway] += 1
        else:
            self.wrong.append(f"prediction {number}: {answer.status_code} {answer.text}")

    def _submit(self, client: httpx.Client, gateway: str, number: int) -> None:
        answer = client.post(f"{gateway}/jobs/square", content=str(number))
        if answer.status_code == 202:
            self.jobs[answer.json()["job_id"]] = number
            self.accepted[gateway] += 1
        else:
            self.wrong.append(f"job {number}: {answer.status_code} {answer.text}")

    def answered(self, gateway: str) -> int:
        """How many accepted jobs have the right result; waits for each. What is not right goes to `wrong`."""
        right = 0
        with httpx.Client(headers=self.headers, timeout=90) as client:
            for job, number in self.jobs.items():
                answer = client.get(f"{gateway}/jobs/{job}/result?wait=60")
                if (answer.status_code, answer.text) == (200, str(number**2)):
                    right += 1
                else:
                    self.wrong.append(f"{job}: {answer.status_code} {answer.text}")
        return right
