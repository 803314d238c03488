"""A server that speaks as much of S3 as downloads need, and checks each signature as S3 does."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

REGION = "eu-central-1"
KEY_ID, SECRET = "AKIAEXAMPLE", "right/secret+key"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([^/]+)/s3/aws4_request, "
    r"SignedHeaders=([^,]+), Signature=(\w+)"
)


@dataclass
class S3Endpoint:
    """`objects` maps `bucket/key` to its content; `requests` are the headers of each request."""

    url: str
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    presigned: set[str] = field(default_factory=set)

    def environment(self, secret: str = SECRET) -> dict[str, str]:
        """For a client of this server, whatever the machine is configured for."""
        return {
            "AWS_ACCESS_KEY_ID": KEY_ID, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url, "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1",
            "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }  # fmt: skip

    def presign(self, name: str) -> str:
        """A URL that gives its holder the object."""
        request = AWSRequest("GET", f"{self.url}/{name}")
        S3SigV4QueryAuth(Credentials(KEY_ID, SECRET), "s3", REGION, expires=60).add_auth(request)
        self.presigned.add(request.url.removeprefix(self.url))
        return str(request.url)


@contextmanager
def s3_endpoint() -> Iterator[S3Endpoint]:
    """Runs one on a free port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    endpoint = S3Endpoint(f"http://127.0.0.1:{server.server_port}")
    server.endpoint = endpoint  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        endpoint: S3Endpoint = self.server.endpoint
        endpoint.requests.append(dict(self.headers))
        content = endpoint.objects.get(urlsplit(self.path).path.lstrip("/"))
        if not self._is_permitted(endpoint):
            self._answer(
                403, _error("SignatureDoesNotMatch", "The signature is not the one calculated here.")
            )
        elif content is None:
            self._answer(404, _error("NoSuchKey", "The specified key does not exist."))
        else:
            self._answer(200, content)

    def do_PUT(self) -> None:
        endpoint: S3Endpoint = self.server.endpoint
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            body = _unchunked(body)
        endpoint.objects[urlsplit(self.path).path.lstrip("/")] = body
        self._answer(200, b"")

    def _is_permitted(self, endpoint: S3Endpoint) -> bool:
        if self.path in endpoint.presigned:
            return True
        match = _AUTHORIZATION.fullmatch(self.headers.get("Authorization", ""))
        if not match or (match[1], match[2]) != (KEY_ID, REGION):
            return False
        return self._signature(endpoint, match[3].split(";")) == match[4]

    def _signature(self, endpoint: S3Endpoint, signed: list[str]) -> str:
        """What the signature of this request must be."""
        request = AWSRequest("GET", endpoint.url + self.path, {name: self.headers[name] for name in signed})
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        auth = S3SigV4Auth(Credentials(KEY_ID, SECRET), "s3", REGION)
        to_sign = auth.string_to_sign(request, auth.canonical_request(request))
        return str(auth.signature(to_sign, request))

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/xml" if status != 200 else "binary/octet-stream")
        self.end_headers()
        with suppress(ConnectionError):  # a client may have had enough
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _unchunked(body: bytes) -> bytes:
    """The content of an aws-chunked body."""
    content, rest = b"", body
    while size := int(rest.partition(b"\r\n")[0].partition(b";")[0], 16):
        rest = rest.partition(b"\r\n")[2]
        content, rest = content + rest[:size], rest[size + 2 :]
    return content


def _error(code: str, message: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
