"""A web server whose files jobs may name."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Site:
    """A web server with files that may be written, too; some paths are redirects."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def file_site() -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.requests.append(self.path)
            if to := made.redirects.get(self.path):
                self._answer(302, b"", Location=to)
            elif (content := made.files.get(self.path)) is None:
                self._answer(404, b"")
            else:
                self._answer(200, content, **{"Content-Type": made.kinds.get(self.path, "image/png")})

        def do_PUT(self) -> None:
            if self.path.startswith("/forbidden"):
                self._answer(403, b"")
                return
            path = self.path.partition("?")[0]
            made.files[path] = self.rfile.read(int(self.headers["Content-Length"]))
            made.kinds[path] = self.headers.get("Content-Type", "")
            self._answer(200, b"")

        def _answer(self, status: int, content: bytes, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # marq ends a transfer that is too large
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Site(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
