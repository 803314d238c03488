"""Drives the `torchserve` command and the management API, for scripts and tests.

`start` remembers where the server is that it has started; without one the usual ports are used.
"""

import logging
import queue
import subprocess
import threading
from pathlib import Path

from ts._command import TORCHSERVE

logger = logging.getLogger(__name__)

STARTED = "Model server started"  # in the line that reports the start
TIMEOUT_S = 120
LINES_KEPT = 1000  # of output, until the caller reads it
MANAGEMENT_ADDRESS = "http://127.0.0.1:8081"

_management = MANAGEMENT_ADDRESS


def start(
    model_store=None,
    snapshot_file=None,
    no_config_snapshots=False,
    gen_mar=True,
    plugin_folder=None,
    disable_token=True,
    models=None,
    model_api_enabled=True,
):
    """Stop a running server, start another, wait until it is up; returns a queue with its further output.

    The queue ends with None. `gen_mar` has no effect: archives are made by torch-model-archiver. Raises
    RuntimeError with the server's output if it does not start.
    """
    global _management
    stop()
    command = [*TORCHSERVE, "--start", "--foreground"]
    command += ["--model-store", str(model_store)] if model_store else []
    command += ["--plugins-path", str(plugin_folder)] if plugin_folder else []
    command += ["--ts-config", str(snapshot_file)] if snapshot_file else []
    command += ["--no-config-snapshots"] if no_config_snapshots else []
    command += ["--disable-token-auth"] if disable_token else []
    command += ["--enable-model-api"] if model_api_enabled else []
    command += ["--models", *models.split(",")] if models else []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    _management = _address(snapshot_file)
    return _wait_until_started(process)


def stop(wait=True):
    """Stop the server, if one runs; with `wait`, return when it has ended."""
    subprocess.run([*TORCHSERVE, "--stop", *(["--foreground"] if wait else [])], check=False)


def register_model(model_name, url):
    """Register an archive with one worker and wait for it; returns the HTTP response."""
    params = {"model_name": model_name, "url": url, "initial_workers": "1", "synchronous": "true"}
    return register_model_with_params(params)


def register_model_with_params(params):
    """`POST /models` with these query parameters; returns the HTTP response."""
    import httpx

    return httpx.post(f"{_management}/models", params=dict(params), timeout=TIMEOUT_S)


def _wait_until_started(process):
    output = queue.Queue()
    started = threading.Event()
    threading.Thread(target=_follow, args=(process, output, started), daemon=True).start()
    running = False
    try:
        running = started.wait(TIMEOUT_S) and process.poll() is None
    finally:  # also after Ctrl-C
        if not running:
            process.terminate()
            process.wait()
    if running:
        return output
    raise RuntimeError("the server did not start:\n" + "".join(_waiting(output)))


def _follow(process, output, started):
    """Pass on the output line by line; drop the oldest line when the queue is full."""
    for line in process.stdout:
        logger.info("%s", line.rstrip())
        if output.qsize() >= LINES_KEPT:
            output.get()
        output.put(line)
        if STARTED in line:
            started.set()
    process.wait()  # `stop` waits for the end of this process
    started.set()
    output.put(None)


def _waiting(output):
    while not output.empty():
        yield output.get() or ""


def _address(config_file):
    """The management address of a config.properties; wildcards stand for this host."""
    if config_file is None:
        return MANAGEMENT_ADDRESS
    lines = Path(config_file).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if not line.startswith("#")]
    given = {name.strip(): value.strip() for name, _, value in pairs}.get("management_address")
    return (given or MANAGEMENT_ADDRESS).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
