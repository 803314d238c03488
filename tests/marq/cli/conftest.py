"""What the tests of all commands use: a runner, a user without a server, and a stand-in for a server."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from marq.host import server_file


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory, found by every command."""
    for variable in ("MARQ_REDIS_URL", "MARQ_TOKEN", "TS_CONFIG_FILE", "MARQ_MODEL_STORE"):
        monkeypatch.delenv(variable, raising=False)
    directory = tmp_path / "state"
    directory.mkdir()
    monkeypatch.setenv("MARQ_STATE_DIR", str(directory))
    return directory


@pytest.fixture
def run() -> Callable[..., Result]:
    """Runs a command in this process: run("predict", "m", "f", stdin=b"")."""
    from marq.cli.app import app

    def run(*arguments: object, stdin: bytes = b"") -> Result:
        result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, prog_name="marq")
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    return run


@dataclass
class FakeServer:
    """Answers what it was told to, and remembers what it was asked."""

    address: str
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)  # "GET /path" -> status, body
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def answer(self, request: str, body: Any, status: int = 200) -> None:
        self.answers[request] = status, body if isinstance(body, bytes) else json.dumps(body).encode()


@pytest.fixture
def note_server(state_dir: Path) -> Callable[..., None]:
    """Writes down that a server runs, as `marq start` does: note_server(pid=..., redis_url=...)."""

    def note(**facts: Any) -> None:
        server = {
            "pid": os.getpid(),
            "redis_url": "redis://127.0.0.1:1/0",
            "token": "secret",
            "inference_address": "http://127.0.0.1:1",
            "management_address": "http://127.0.0.1:2",
        }
        server_file.write(state_dir, server_file.Server(**{**server, **facts}))

    return note


@pytest.fixture
def server(note_server: Callable[..., None]) -> Iterator[FakeServer]:
    """A stand-in for a server that runs on this host, with the token `secret`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = f"{self.command} {self.path}"
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.asked.append((request, headers, body))
            status, answer = fake.answers.get(request.partition("?")[0], (500, b"not told what to answer"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeServer(f"http://127.0.0.1:{http.server_port}")
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    note_server(inference_address=fake.address)
    yield fake
    http.shutdown()
    http.server_close()
