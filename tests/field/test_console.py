"""What handlers print, and the access log, are on the console as well as in the files; nothing blocks."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from support import MARQ, free_port, wait_for

HANDLER = """
import logging, sys

if {broken}:
    raise RuntimeError("there is no vocabulary")


def handle(data, context):
    if data is None:
        return None
    order = bytes(data[0]["body"]).decode()
    if order == "long":
        sys.stdout.write("x" * 2_000_000)
        sys.stdout.flush()
        for step in range(100):
            sys.stderr.write(f"\\rstep {{step}} of 100")
        sys.stderr.flush()
    if order == "much":
        for number in range(3000):
            print("y" * 100, number)
    if order == "fail":
        raise ValueError("no such order")
    logging.getLogger("mine").info("logged %s", order)
    print("printed", order, flush=True)
    return ["ok"]
"""


class Console:
    """A server whose stdout the test reads, or does not."""

    def __init__(self, process: subprocess.Popen[bytes], inference: str, state: Path) -> None:
        self.process, self.inference, self.state = process, inference, state
        self.output = b""

    def predict(self, model: str, body: str) -> httpx.Response:
        return httpx.post(f"{self.inference}/predictions/{model}", content=body, timeout=60)

    def shows(self, text: str) -> bool:
        """Whether the text has come on stdout by now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.process.stdout.fileno(), 1 << 20):  # type: ignore[union-attr]
                self.output += data
        return text in self.output.decode()

    def logged(self, file: str) -> str:
        return (self.state / "logs" / file).read_text()


@pytest.fixture(scope="module")
def start(
    make_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Console]]:
    consoles = []

    def run(broken: bool = False, **settings: str) -> Console:
        tmp_path = tmp_path_factory.mktemp("console")
        config = {"minWorkers": 1, "maxWorkers": 1}
        make_archive(tmp_path / "store", "m", HANDLER.format(broken=broken), config)
        ports = {f"{plane}_address": free_port() for plane in ("inference", "management", "metrics")}
        lines = {key: f"http://127.0.0.1:{port}" for key, port in ports.items()} | settings
        properties = tmp_path / "config.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        command = [MARQ, "start", "--disable-token-auth", "--model-store", tmp_path / "store"]
        process = subprocess.Popen(
            [*command, "--models", "m.mar", "--ts-config", properties],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp_path,
            env={**os.environ, "MARQ_STATE_DIR": str(tmp_path / "state")},
        )  # fmt: skip
        os.set_blocking(process.stdout.fileno(), False)  # type: ignore[union-attr]
        consoles.append(Console(process, lines["inference_address"], tmp_path / "state"))
        return consoles[-1]

    yield run
    for console in consoles:
        console.process.send_signal(signal.SIGINT)
    for console in consoles:
        console.process.wait(60)


@pytest.fixture(scope="module")
def quiet(start: Callable[..., Console]) -> Console:
    """A server that shows neither requests nor what models print."""
    console: Console = start(access_log_on_console="false", model_log_on_console="false")
    wait_for(_answers(console, "hello"), 60, "an answer")
    return console


def _answers(console: Console, body: str) -> Callable[[], bool]:
    def ask() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return console.predict("m", body).status_code == 200
        return False

    return ask


def test_prints_logs_tracebacks_and_requests_are_on_the_console(start: Callable[..., Console]) -> None:
    console = start()
    wait_for(_answers(console, "hello"), 60, "an answer")
    assert console.predict("m", "fail").status_code == 503
    for text in (
        "printed hello",
        "logged hello",
        "ValueError: no such order",
        '"POST /predictions/m HTTP/1.1" 200',
    ):
        wait_for(lambda text=text: console.shows(text), what=text)
    [failed] = [line for line in console.output.decode().splitlines() if "503 Prediction failed. Req" in line]
    assert "[ERROR] model MODEL_LOG - [m-1.0@" in failed
    trace = console.output.decode().partition("Traceback")[2].partition("ValueError")[0]
    assert trace.count("File ") == 1
    assert "m_handler.py" in trace
    assert "printed hello" in console.logged("model_log.log")
    refused = '"POST /predictions/m HTTP/1.1" 503'
    wait_for(lambda: refused in console.logged("access_log.log"), what="the access log's next lines")


def test_each_can_be_turned_off(quiet: Console) -> None:
    console = quiet
    wait_for(lambda: "printed hello" in console.logged("model_log.log"), what="the log file")
    wait_for(lambda: "predictions/m" in console.logged("access_log.log"), what="the access log")
    assert not console.shows("hello")
    assert not console.shows('"POST /predictions/m')


@pytest.mark.slow
def test_why_a_model_does_not_load_is_on_the_console(start: Callable[..., Console]) -> None:
    console = start(broken=True)
    wait_for(lambda: console.shows("there is no vocabulary"), 60, "the reason")


@pytest.mark.slow
def test_a_console_that_is_not_read_holds_nothing_up(start: Callable[..., Console]) -> None:
    console = start()
    wait_for(_answers(console, "hello"), 60, "an answer")
    for _ in range(10):  # 3 MB, where a pipe takes 64 kB
        assert console.predict("m", "much").status_code == 200
    assert console.predict("m", "last").status_code == 200
    wait_for(lambda: "printed last" in console.logged("model_log.log"), what="the last line in the log file")
    console.process.send_signal(signal.SIGINT)
    console.process.wait(25)  # a node waits 30 s for a pool that is held up


@pytest.mark.slow
def test_a_console_that_has_been_closed_holds_nothing_up(start: Callable[..., Console]) -> None:
    console = start()
    wait_for(_answers(console, "hello"), 60, "an answer")
    console.process.stdout.close()  # type: ignore[union-attr]
    assert console.predict("m", "much").status_code == 200
    assert console.predict("m", "last").status_code == 200
    wait_for(lambda: "printed last" in console.logged("model_log.log"), what="the last line in the log file")


def test_what_comes_after_two_megabytes_without_a_line_end_is_logged(quiet: Console) -> None:
    console = quiet
    assert console.predict("m", "long").status_code == 200
    wait_for(lambda: "printed long" in console.logged("model_log.log"), what="the line after it")
    wait_for(lambda: "step 98 of 100" in console.logged("model_log.log"), what="the progress bar")
    assert max(map(len, console.logged("model_log.log").splitlines())) < 70_000
