"""Somebody who uses the `torchserve` command."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
from ports import free_port
from support import START_TIMEOUT_S, wait_for

TORCHSERVE = Path(sys.executable).with_name("torchserve")


class User:
    """Somebody with a shell: an own directory, temporary directory and ports."""

    def __init__(self, home: Path, store: Path) -> None:
        self.home, self.store = home, store
        self.inference, self.management, self.metrics = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        self.output = home / "output"
        (home / "tmp").mkdir()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MARQ_", "TS_"))},
            "TMPDIR": str(home / "tmp"),
            "XDG_STATE_HOME": str(home / "state"),
            "PATH": f"{TORCHSERVE.parent}:{os.environ['PATH']}",
        }
        (home / "config.properties").write_text(
            f"inference_address={self.inference}\n"
            f"management_address={self.management}\n"
            f"metrics_address={self.metrics}\n"
            "enable_model_api=true\ndisable_token_authorization=true\nnumber_of_netty_threads=32\nenable_grpc=false\n"
        )

    def torchserve(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Output goes to a file, because a server in the background inherits it."""
        with self.output.open("w") as output:
            done = subprocess.run(
                [TORCHSERVE, *map(str, arguments)], stdout=output, stderr=subprocess.STDOUT, cwd=self.home,
                env=self.environment | environment, timeout=60,
            )  # fmt: skip
        return subprocess.CompletedProcess(done.args, done.returncode, self.output.read_text())

    def shell(self, command: str) -> str:
        return subprocess.run(
            ["bash", "-euc", command], capture_output=True, text=True, cwd=self.home, env=self.environment,
            timeout=200, check=True,
        ).stdout  # fmt: skip

    def start(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        given = ("--model-store", self.store, "--ts-config", "config.properties")
        started = self.torchserve("--start", *given, *arguments)
        wait_for(lambda: "Model server started." in self.output.read_text(), START_TIMEOUT_S, log=self.output)
        return started

    def leave(self) -> None:
        """Stops the server, if one has been left running."""
        if (self.home / "tmp" / ".model_server.pid").exists():
            self.torchserve("--stop")

    def has_ended(self) -> bool:
        try:
            httpx.get(f"{self.inference}/ping")
        except httpx.TransportError:
            return True
        return False
