"""The server's inference address as the commands use it."""

import mimetypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from marq.cli.options import STDIN
from marq.errors import MarqError

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 5.0
LONGEST_MESSAGE = 2000
UNKNOWN_TYPE = "application/octet-stream"


class RequestFailed(MarqError):
    """Raised when the server does not answer, or answers with an error."""


class Api:
    """Requests to one server; `local` servers are not asked through a proxy."""

    def __init__(self, address: str, token: str, local: bool) -> None:
        import httpx

        self._host = urlsplit(address).netloc.rpartition("@")[2] or address
        try:
            self._client = httpx.Client(
                base_url=address,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                trust_env=not local,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise RequestFailed(f"{self._host} cannot be asked: {error}") from error

    @contextmanager
    def send(self, method: str, path: str, **options: Any) -> Iterator["httpx.Response"]:
        """The answer, its body not read yet. `options` are those of httpx. Raises RequestFailed."""
        import httpx

        try:
            with self._client.stream(method, path, **options) as response:
                if response.is_error:
                    response.read()
                    raise RequestFailed(_message(response))
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            cause = str(error) or type(error).__name__
            raise RequestFailed(f"The server at {self._host} does not answer: {cause}") from error

    def ask(self, method: str, path: str, key: str, **options: Any) -> dict[str, Any]:
        """The JSON object of the answer, which has this key. Raises RequestFailed."""
        with self.send(method, path, **options) as response:
            response.read()
            try:
                answer = dict(response.json())
            except (ValueError, TypeError):
                answer = {}
        if key not in answer:
            raise RequestFailed(f"The server at {self._host} does not answer as marq does.")
        return answer


def connect(url: str | None, token: str | None, state_dir: Path | None) -> Api:
    """The server at `url`, or the one that runs on this host, with its token. Raises ServerNotFound."""
    if url:
        return Api(url if "://" in url else f"http://{url}", token or "", local=False)
    from marq import locate

    server = locate.find(state_dir)
    return Api(server.inference_address, token or server.inference_token, local=True)


def path(*segments: str | None) -> str:
    """A URL path; segments that are None are left out."""
    return "".join(f"/{quote(segment, safe=':')}" for segment in segments if segment is not None)


def upload(file: Path, content_type: str | None) -> dict[str, Any]:
    """What a file (`-`: standard input) adds to a request."""
    content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
    return {"content": content, "headers": {"Content-Type": content_type or guess_type(file)}}


def guess_type(file: Path) -> str:
    """The media type by the file's name; a compressed file is bytes, whatever is in it."""
    kind, compression = mimetypes.guess_type(file.name)
    return kind if kind and not compression else UNKNOWN_TYPE


def _message(response: "httpx.Response") -> str:
    try:
        error = response.json()
        return f"{error['type']} ({response.status_code}): {error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}: {response.text[:LONGEST_MESSAGE]}"
