"""The servers: how each is started, with the same config.properties and the same archives."""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import ClassVar, Self

import psutil

from benchmarks.load import Target, verify_one
from benchmarks.processes import Tree, free_port, pss_mb
from benchmarks.workloads import HANDLERS, VERSION, Archives, Sample, Workload
from marq.host import server_file

MAX_DELAY_MS = 5
START_TIMEOUT_S = 120.0
QUIET_LOG = Path(__file__).with_name("log4j2-quiet.xml")


class ServerFailed(Exception):
    """Raised when a server does not start; carries the end of its log."""


class Server:
    """One server with one replica of one workload, on free ports, while the `with` block runs."""

    name: ClassVar[str]
    warmup_s: ClassVar[float]
    replica_marks: ClassVar[tuple[str, ...]]  # in the command line of a process that runs handlers
    extra: ClassVar[dict[str, str]] = {}  # more lines of config.properties
    token = ""  # for predictions, where it asks for one

    def __init__(
        self,
        venv: Path,
        archives: Archives,
        workload: Workload,
        job_queue_size: int = 1000,
        extra: dict[str, str] | None = None,
        replicas: int = 1,
    ) -> None:
        """`extra`: more lines of config.properties."""
        self._venv, self._archives, self._workload = venv, archives, workload
        self._job_queue_size, self._own, self._replicas = job_queue_size, extra or {}, replicas
        self.inference, self.management = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._grpc_port = free_port()
        self.url = f"{self.inference}/predictions/{workload.kind}"
        self.killed = 0  # processes that did not end by themselves

    def __enter__(self) -> Self:
        """Returns when it answers. Raises ServerFailed."""
        self._directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
        self.tree = Tree(self.command(), self._environment(), self._directory)
        try:
            self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.killed = self.tree.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def samples(self) -> list[Sample]:
        return self._archives.samples[self._workload.kind]

    @property
    def target(self) -> Target:
        """The requests of its load."""
        over_grpc = f"127.0.0.1:{self._grpc_port}" if self._workload.kind == "grpc" else ""
        return Target(self.url, self.samples[0], self.token, over_grpc, self._workload.kind)

    @property
    def state_dir(self) -> Path:
        return self._directory / "state"

    def command(self) -> list[str]:
        raise NotImplementedError

    def arguments(self) -> list[str]:
        """Options that marq and TorchServe have in common."""
        kind = self._workload.kind
        return [
            "--model-store",
            str(self._archives.store),
            "--ts-config",
            str(self._write_config()),
            "--models",
            f"{kind}={kind}.mar",
        ]

    def memory(self) -> dict[str, float]:
        """PSS in MB: of the server itself, and of its replica."""
        processes = self.tree.processes()
        return {
            "server_pss_mb": round(pss_mb(processes, lambda process: self._is_server(process)), 1),
            "replica_pss_mb": round(pss_mb(processes, self._is_replica), 1),
        }

    def _is_replica(self, process: psutil.Process) -> bool:
        line = " ".join(process.cmdline())
        return any(mark in line for mark in self.replica_marks)

    def _is_server(self, process: psutil.Process) -> bool:
        return not self._is_replica(process)

    def _environment(self) -> dict[str, str]:
        """Without settings of other servers; temporary files go where they are removed."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("MARQ_", "TS_", "PYTHONPATH"))}
        path = f"{self._venv / 'bin'}{os.pathsep}{kept.get('PATH', '')}"
        scratch = str(self._directory)
        return {
            **kept,
            "PATH": path,
            "TMPDIR": scratch,
            "TEMP": scratch,
            "MARQ_STATE_DIR": str(self.state_dir),
        }

    def _write_config(self) -> Path:
        model = {
            "defaultVersion": True,
            "marName": f"{self._workload.kind}.mar",
            "minWorkers": self._replicas,
            "maxWorkers": self._replicas,
            "batchSize": self._workload.batch,
            "maxBatchDelay": MAX_DELAY_MS,
            "responseTimeout": 120,
        }
        lines = {
            "inference_address": self.inference,
            "management_address": self.management,
            "metrics_address": f"http://127.0.0.1:{free_port()}",
            "grpc_inference_port": self._grpc_port,
            "grpc_management_port": free_port(),
            "disable_token_authorization": "true",
            "default_workers_per_model": 1,
            "job_queue_size": self._job_queue_size,
            "models": json.dumps({self._workload.kind: {VERSION: model}}),
            **self.extra,
            **self._own,
        }
        path = self._directory / "config.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        return path

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        problem = "no answer"
        while time.monotonic() < deadline and not self.tree.has_ended:
            problem = verify_one(self.url, self.samples[0], self.token, timeout_s=10)
            if not problem:
                return
            time.sleep(0.05)
        raise ServerFailed(f"{self.name} did not start: {problem}. Its last lines:\n{self.tree.log_tail()}")


class Marq(Server):
    name = "marq"
    warmup_s = 5
    replica_marks = ("workers.replica",)

    def command(self) -> list[str]:
        return [str(self._venv / "bin/marq"), "start", *self.arguments()]


class BareMarq(Marq):
    """Without optional features."""

    name = "marq-bare"
    extra: ClassVar[dict[str, str]] = {"enable_metrics_api": "false", "access_log": "false"}


class FullMarq(Marq):
    """With tokens, the access log, and all metrics on `/metrics`."""

    name = "marq-full"
    extra: ClassVar[dict[str, str]] = {
        "disable_token_authorization": "false",
        "metrics_mode": "prometheus",
        "access_log": "true",
    }

    @property
    def token(self) -> str:  # type: ignore[override]
        try:
            return server_file.find(self.state_dir).token
        except server_file.ServerNotFound:
            return ""


class TorchServe(Server):
    """As it comes, with its request log."""

    name = "torchserve"
    warmup_s = 20  # its JVM becomes faster for about this time
    replica_marks = ("model_service_worker.py",)

    def command(self) -> list[str]:
        return [str(self._venv / "bin/torchserve"), "--start", "--foreground", "--ncs", *self.arguments()]

    def _is_server(self, process: psutil.Process) -> bool:
        return process.name() == "java"


class QuietTorchServe(TorchServe):
    """Without its request log."""

    name = "torchserve-quiet"

    def command(self) -> list[str]:
        return [*super().command(), "--log-config", str(QUIET_LOG)]


class Mosec(Server):
    """A server in Rust without a queue that outlives it; `handlers/mosec_app.py` has the workloads."""

    name = "mosec"
    warmup_s = 5
    replica_marks = ("spawn_main",)

    def __init__(self, venv: Path, archives: Archives, workload: Workload) -> None:
        super().__init__(venv, archives, workload)
        self.url = f"{self.inference}/inference"

    def command(self) -> list[str]:
        port = self.inference.rpartition(":")[2]
        app = str(HANDLERS / "mosec_app.py")
        options = ["--address", "127.0.0.1", "--port", port, "--timeout", "60000", "--log-level", "warning"]
        return [str(self._venv / "bin/python"), app, *options]

    def _environment(self) -> dict[str, str]:
        batching = {"BENCH_BATCH": str(self._workload.batch), "BENCH_DELAY_MS": str(MAX_DELAY_MS)}
        return {**super()._environment(), "BENCH_KIND": self._workload.kind, **batching}


SERVERS: dict[str, type[Server]] = {
    server.name: server for server in (Marq, BareMarq, FullMarq, TorchServe, QuietTorchServe, Mosec)
}
WITHOUT = {Mosec.name: ("conv", "grpc")}  # kinds that a server does not have
MARQ_VENV = Path(sys.executable).parent.parent
