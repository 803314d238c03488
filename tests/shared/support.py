"""What tests share: running servers as a user would start them, and waiting."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import redis
from ports import free_port
from typer.testing import CliRunner

from marq import keys
from marq.cli.app import app
from marq.host import server_file
from marq.registry.reports import PoolReport

MARQ = Path(sys.executable).with_name("marq")
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15  # for what a test has left in flight


def wait_for(
    condition: Callable[[], Any], timeout_s: float = 60.0, what: str = "it", log: Path | None = None
) -> Any:
    """The first true value of the condition; fails the test, showing the log, when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    told = f"; log:\n{log.read_text()}" if log else ""
    raise AssertionError(f"waited {timeout_s} s in vain for {what}{told}")


@dataclass
class RunningServer:
    """A server that `marq start` runs, as a user would start it."""

    process: subprocess.Popen[bytes]
    state_dir: Path
    inference: str
    management: str
    metrics: str
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    model_log_start: int = 0  # what is before it, another module's models have written
    _asked_to_stop: bool = False

    @property
    def redis_url(self) -> str:
        return server_file.find(self.state_dir).redis_url

    def workers(self, model: str) -> list[dict[str, Any]]:
        """The replicas of a model's default version, as describe lists them."""
        answer = httpx.get(f"{self.management}/models/{model}")
        return list(answer.json()[0]["workers"]) if answer.status_code == 200 else []

    def wait_until_ready(self, model: str, replicas: int = 1) -> None:
        def ready() -> bool:
            return sum(worker["status"] == "READY" for worker in self.workers(model)) >= replicas

        wait_for(ready, START_TIMEOUT_S, f"{replicas} replica(s) of {model}", self.log)

    def predict(self, model: str, body: bytes = b"", **options: Any) -> httpx.Response:
        return httpx.post(f"{self.inference}/predictions/{model}", content=body, timeout=60, **options)

    def submit(self, model: str, body: bytes = b"", **options: Any) -> str:
        """Queues a job over HTTP; returns its id."""
        answer = httpx.post(f"{self.inference}/jobs/{model}", content=body, timeout=60, **options)
        return str(answer.raise_for_status().json()["job_id"])

    def result(self, job: str) -> httpx.Response:
        """The result of a job that finishes within a minute."""
        return httpx.get(f"{self.inference}/jobs/{job}/result?wait=55", timeout=60)

    def wait_until_draining(self, model: str, version: str = "1.0") -> None:
        """Returns when the replicas have been asked to end after what they run, or have ended."""
        with redis.Redis.from_url(self.redis_url) as client:

            def draining() -> bool:
                reports = client.hgetall(keys.pools(model, version)).values()
                return all(PoolReport.from_json(report).wanted == 0 for report in reports)

            wait_for(draining, what=f"the end of the pool of {model}", log=self.log)

    def scale(self, model: str, replicas: int) -> None:
        url = f"{self.management}/models/{model}?min_worker={replicas}&max_worker={replicas}&synchronous=true"
        httpx.put(url, timeout=60).raise_for_status()

    @property
    def model_log(self) -> str:
        log = self.state_dir / "logs" / "model_log.log"
        return log.read_text()[self.model_log_start :] if log.exists() else ""

    def marq(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs a `marq` command against this server."""
        return subprocess.run(
            [MARQ, *arguments], capture_output=True, text=True, env=self.environment, timeout=60
        )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same in the tests' own process, without the start of a Python interpreter."""
        environment = {"MARQ_STATE_DIR": str(self.state_dir)}
        done = CliRunner().invoke(app, arguments, env=environment, prog_name="marq")
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def ask_to_stop(self) -> None:
        """Ctrl-C, which is harmless once the server has ended."""
        if self.process.poll() is None and not self._asked_to_stop:
            self.process.send_signal(signal.SIGINT)
        self._asked_to_stop = True

    def stop(self) -> int:
        """Ctrl-C; returns the exit code."""
        self.ask_to_stop()
        return self.process.wait(60)


def bridge_of(server: RunningServer) -> psutil.Process:
    """The running Celery bridge of a server."""

    def found() -> list[psutil.Process]:
        children = psutil.Process(server.process.pid).children()
        return [child for child in children if _command(child)[-1:] == ["bridge"]]

    bridges: list[psutil.Process] = wait_for(found, what="the bridge", log=server.log)
    return bridges[0]


def _command(process: psutil.Process) -> list[str]:
    """Empty for a process that has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def start_server(
    directory: Path, store: Path, models: list[str] | str, arguments: list[str], config: dict[str, Any]
) -> RunningServer:
    addresses = {
        name: str(config.get(f"{name}_address", f"http://127.0.0.1:{free_port()}"))
        for name in ("inference", "management", "metrics")
    }
    lines = {f"{name}_address": address for name, address in addresses.items()}
    lines |= {"access_log_on_console": False, "stop_timeout": STOP_TIMEOUT_S, **config}
    properties = directory / "config.properties"
    properties.write_text(
        "".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}\n" for k, v in lines.items())
    )
    log = directory / "server.log"
    environment = {**os.environ, "MARQ_STATE_DIR": str(directory / "state")}
    if "enable_grpc" in config:
        environment.pop("MARQ_ENABLE_GRPC", None)
    else:
        environment["MARQ_ENABLE_GRPC"] = (
            "false"  # servers that run at the same time would want the same ports
        )
    command = [MARQ, "start", "--model-store", store, "--ts-config", properties, *arguments]
    wanted = [models] if isinstance(models, str) else models
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--models", *wanted] if wanted else command,
            env=environment, cwd=directory, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    server = RunningServer(process, directory / "state", **addresses, log=log, environment=environment)
    try:
        wait_for(lambda: _answers(server), START_TIMEOUT_S, "the server", log)
    except BaseException:
        server.stop()
        raise
    return server


def _answers(server: RunningServer) -> bool:
    assert server.process.poll() is None, f"the server ended:\n{server.log.read_text()}"
    try:
        return httpx.get(f"{server.inference}/ping", verify=False).status_code in (200, 400)
    except httpx.TransportError:
        return False
