"""A real RabbitMQ, where Debian's package is installed."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from ports import free_port
from support import wait_for

SERVER = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin")


@contextlib.contextmanager
def rabbitmq(directory: Path) -> Iterator[str]:
    """Runs a broker of its own; its URL."""
    assert SERVER
    port, names_port, log = free_port(), free_port(), directory / "rabbitmq.log"
    variables = {
        "HOME": directory, "RABBITMQ_NODENAME": f"marq{port}@localhost", "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": free_port(),
        "ERL_EPMD_PORT": names_port,
        "RABBITMQ_MNESIA_BASE": directory / "db", "RABBITMQ_LOG_BASE": directory / "log",
        "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_ENABLED_PLUGINS_FILE": directory / "plugins",
    }  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SERVER], env={**os.environ, **{name: str(value) for name, value in variables.items()}},
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        wait_for(lambda: "Starting broker... completed" in log.read_text(), 120, "RabbitMQ", log)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)
        # Erlang's daemon of names, which the broker has started, outlives it.
        subprocess.run(["epmd", "-port", str(names_port), "-kill"], stdout=subprocess.DEVNULL)
