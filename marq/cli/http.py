"""The server's inference address as the commands use it."""

import mimetypes
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack
from urllib.parse import quote, urlsplit

from marq.cli.output import note, note_idle
from marq.errors import MODEL_API_OFF, MarqError

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 30.0  # a handshake takes long where much else runs
LONGEST_MESSAGE = 2000
PAGE = 100  # models
MOST_NAMED = 10
WARNED = '299 marq "'  # begins what stands in quotes
MODEL_NOT_FOUND = "ModelNotFoundException"
NO_ARCHIVE = "Model not found at: "
UNKNOWN_TYPE = "application/octet-stream"
STDIN = Path("-")  # as the name of a file


class RequestFailed(MarqError):
    """Raised when the server does not answer, or answers with an error."""


class Options(TypedDict, total=False):
    """The options of httpx that commands use."""

    params: Mapping[str, str | int | float]
    json: object
    content: "bytes | Iterable[bytes]"
    headers: Mapping[str, str]
    timeout: float


class Api:
    """Requests to one address. `transport`: for a server on this host; it bypasses proxies."""

    def __init__(
        self,
        address: str,
        token: str,
        transport: "httpx.HTTPTransport | None" = None,
        management: "Callable[[], Api] | None" = None,
    ) -> None:
        import httpx

        self._management = management or (lambda: self)

        parts = urlsplit(address)
        self._host = parts.netloc.rpartition("@")[2] or address
        try:
            self._client = httpx.Client(
                base_url="http://localhost" if parts.scheme == "unix" else address,
                headers={"Authorization": f"Bearer {token}"} if token else {},
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                transport=transport,
                trust_env=transport is None,
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise RequestFailed(f"{self._host} is not a usable address: {error}") from error

    @contextmanager
    def send(self, method: str, path: str, **options: Unpack[Options]) -> Iterator["httpx.Response"]:
        """The answer, its body not read yet. Raises RequestFailed."""
        import httpx

        try:
            with self._client.stream(method, path, **options) as response:
                if response.is_error:
                    response.read()
                    raise RequestFailed(_message(response) + self._known_instead(response))
                for warning in response.headers.get_list("warning"):
                    note(warning.removeprefix(WARNED)[:-1])
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            cause = str(error) or type(error).__name__
            raise RequestFailed(f"The server at {self._host} does not answer: {cause}") from error

    def ask(self, method: str, path: str, key: str, **options: Unpack[Options]) -> Any:
        """The JSON object of the answer, which has this key. Raises RequestFailed."""
        answer = self.json(method, path, **options)
        if not isinstance(answer, dict) or key not in answer:
            raise RequestFailed(f"The server at {self._host} does not answer as marq does.")
        return answer

    def json(self, method: str, path: str, **options: Unpack[Options]) -> Any:
        """The JSON of the answer, None if the body is not JSON. Raises RequestFailed."""
        with self.send(method, path, **options) as response:
            response.read()
            try:
                return response.json()
            except ValueError:
                return None

    def models(self) -> list[str]:
        """The names of all models, page by page; of a management API. Raises RequestFailed."""
        found: list[str] = []
        first: str | None = "0"
        while first is not None:
            page = self.ask("GET", "/models", "models", params={"limit": PAGE, "next_page_token": first})
            found += [model["modelName"] for model in page["models"]]
            first = page.get("nextPageToken") if page["models"] else None
        return found

    def _known_instead(self, response: "httpx.Response") -> str:
        """The model that may be meant by the name of one that is not known, or the models that are."""
        if not (unknown := _unknown_model(response)):
            return ""
        from marq.settings.torchserve_keys import meant

        try:
            names = self._management().models()
        except MarqError:
            return ""
        if like := meant(unknown, names):
            return f". Did you mean {like}?"
        shown = ", ".join(names[:MOST_NAMED]) + (" ..." if len(names) > MOST_NAMED else "")
        return f". Registered models: {shown}." if names else ". No models are registered."


def connect(url: str | None, token: str | None, state_dir: Path | None, management: bool = False) -> Api:
    """The server at `url`, or the one that runs on this host, with its token. Raises ServerNotFound.

    `management`: its management address, else the one for inference.
    """
    if url:
        if state_dir:
            note_idle("--state-dir", "--url names the server")
        return Api(url if "://" in url else f"http://{url}", token or "")
    from marq.host import server_file

    server = server_file.find(state_dir)

    def api(address: str, management: "Callable[[], Api] | None" = None) -> Api:
        return Api(address, token or server.token, _transport(address, server.certificate), management)

    if management:
        return api(server.management_address)
    return api(server.inference_address, lambda: api(server.management_address))


def _transport(address: str, certificate: str) -> "httpx.HTTPTransport":
    """To a server on this host: a Unix socket, or TLS that trusts this server's own certificate alone."""
    import httpx

    if address.startswith("unix:"):
        return httpx.HTTPTransport(uds=address.removeprefix("unix:"))
    if not address.startswith("https:"):
        return httpx.HTTPTransport()
    import ssl

    context = ssl.create_default_context(cafile=certificate)
    context.check_hostname = False  # it is made for the name that other hosts use
    return httpx.HTTPTransport(verify=context)


def path(*segments: str | None) -> str:
    """A URL path; segments that are None are left out."""
    return "".join(f"/{quote(segment, safe=':')}" for segment in segments if segment is not None)


def upload(file: Path, content_type: str | None, headers: Mapping[str, str] | None = None) -> Options:
    """The httpx options that send a file (`-`: standard input) as the request's body."""
    content = sys.stdin.buffer.read() if file == STDIN else file.read_bytes()
    return {
        "content": content,
        "headers": {"Content-Type": content_type or guess_type(file), **(headers or {})},
    }


def guess_type(file: Path) -> str:
    """The media type by the file's name; a compressed file is plain bytes."""
    kind, compression = mimetypes.guess_type(file.name)
    return kind if kind and not compression else UNKNOWN_TYPE


def _message(response: "httpx.Response") -> str:
    try:
        error = response.json()
        message = f"{error['type']} ({response.status_code}): {error['message']}"
        return f"{message}{_cure(response, error['type'])}"
    except (ValueError, KeyError, TypeError):
        return f"status {response.status_code}: {response.text[:LONGEST_MESSAGE]}"


def _unknown_model(response: "httpx.Response") -> str:
    """The name that an answer says is not the name of a model; else empty."""
    try:
        error = response.json()
        is_model = error["type"] == MODEL_NOT_FOUND and not error["message"].startswith(NO_ARCHIVE)
        return error["message"].rpartition(": ")[2] if is_model else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _cure(response: "httpx.Response", kind: str) -> str:
    """The cure of an error whose text is TorchServe's."""
    if kind == "InvalidKeyException":
        return (
            ". The tokens are in key_file.json, in the directory where the server was started: give one "
            "with --token or MARQ_TOKEN."
        )
    is_restricted = response.request.method in ("POST", "DELETE") and "/models" in response.request.url.path
    if kind == "MethodNotAllowedException" and is_restricted:
        return f" {MODEL_API_OFF}"
    return ""
