"""Fetches remote archives (http, https, file, s3) into a directory."""

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from archive.errors import ArchiveExists, ArchiveNotFound, DownloadFailed
from archive.formats.limits import CHUNK_BYTES, MIB
from archive.store import s3
from archive.store.object_stores import StoreUnavailable
from archive.store.permissions import Permissions

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

Pieces = Iterator[tuple[bytes, int | None]]  # each with the size of the whole, if that is known
Source = Callable[[str], Pieces]
Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all if known

_LOG_EVERY_BYTES = 256 * MIB
_MAX_REDIRECTS = 5


@dataclass(frozen=True)
class Download:
    """Allowed URLs and limits of downloads: `permissions` judge the URL of every redirect, too.

    `signed`: http(s) requests carry an AWS signature, as objects encrypted with SSE-KMS need it. `sources`
    read the URLs of their schemes; they come first.
    """

    permissions: Permissions
    max_bytes: int
    timeout_s: float
    progress: Progress | None = None
    signed: bool = False
    sources: Mapping[str, Source] = field(default_factory=dict)

    def fetch(self, url: str, target: Path) -> None:
        """Downloads `url` to `target`, which appears complete or not at all.

        Raises ArchiveExists if `target` exists, DownloadFailed for everything that goes wrong on the way.
        """
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        with _failure_told(url):
            if target.exists():
                raise _exists(target)
            try:
                with part.open("xb") as file:
                    for data in self._counted(url, target.name):
                        file.write(data)
                _publish(part, target)
            finally:
                part.unlink(missing_ok=True)

    def _counted(self, url: str, name: str) -> Iterator[bytes]:
        started, done = time.monotonic(), 0
        for data, total in self._pieces(url):
            done += len(data)
            self._check(url, max(done, total or 0), time.monotonic() - started)
            if self.progress:
                self.progress(done, total)
            if done // _LOG_EVERY_BYTES > (done - len(data)) // _LOG_EVERY_BYTES:
                log.info("downloading %s: %d of %s bytes", name, done, total or "an unknown number of")
            yield data
        log.info("downloaded %s: %d bytes in %.1f s", name, done, time.monotonic() - started)

    def _check(self, url: str, size: int, elapsed_s: float) -> None:
        if size > self.max_bytes:
            raise failed(url, f"It is larger than the limit of {self.max_bytes} bytes.")
        if elapsed_s > self.timeout_s:
            raise failed(url, f"It took longer than the limit of {self.timeout_s:g} s.")

    def _pieces(self, url: str) -> Pieces:
        if source := self.sources.get(scheme_of(url)):
            return source(url)
        if s3.is_s3(url):
            return s3.received(url)
        return _copied(url) if _is_file(url) else self._received(url)

    def _received(self, url: str) -> Iterator[tuple[bytes, int | None]]:
        import httpx

        sign = s3.signer() if self.signed else None
        # Asked for as it is: a compressed answer would be stored compressed.
        headers = {"Accept-Encoding": "identity"}
        # A proxy hides the address of a host: a host that must be public is asked directly.
        with httpx.Client(
            timeout=httpx.Timeout(60.0, connect=10.0), headers=headers, trust_env=self.permissions.names(url)
        ) as client:
            location = url
            for _ in range(_MAX_REDIRECTS + 1):
                # The signature is for the URL as httpx spells it.
                signature = sign(str(httpx.URL(location))) if sign else None
                with client.stream("GET", location, headers=signature) as response:
                    self._check_address(location, response)
                    if not response.has_redirect_location:
                        yield from _body(response, url)
                        return
                    location = self._redirected(url, location, response.headers["location"])
        raise failed(url, f"It was redirected more than {_MAX_REDIRECTS} times.")

    def _redirected(self, url: str, location: str, to: str) -> str:
        target = urljoin(location, to)
        try:
            if scheme_of(target) not in ("http", "https"):
                raise ArchiveNotFound("A redirect must stay on the web.")
            self.permissions.check(target)
        except ArchiveNotFound as error:
            why = f"It redirects to {_shown(target)}, which matches no allowed URL."
            raise failed(url, f"{why} {error.reason}".strip()) from error
        return target

    def _check_address(self, url: str, response: "httpx.Response") -> None:
        """A name server may have given another address than when the URL was checked."""
        address = response.extensions["network_stream"].get_extra_info("server_addr")
        if address and not self.permissions.names(url):
            self.permissions.check_address(url, str(address[0]))


def scheme_of(url: str) -> str:
    """In lower case; empty if the URL has none."""
    scheme, found, _ = url.partition("://")
    return scheme.lower() if found else ""


def failed(url: str, reason: str) -> DownloadFailed:
    """The error of a download, with TorchServe's text."""
    return DownloadFailed(f"Failed to download archive from: {url}", reason)


def _exists(target: Path) -> ArchiveExists:
    return ArchiveExists(
        f"Model file already exists {target.name}",
        "Register it by its file name, or delete it from the model store first.",
    )


@contextmanager
def _failure_told(url: str) -> Iterator[None]:
    try:
        yield
    except ArchiveExists:
        raise
    except DownloadFailed as error:
        log.warning("failed to download %s: %s", _shown(url), error.reason)
        raise
    except (s3.S3Unavailable, StoreUnavailable) as error:
        log.warning("failed to download %s: %s", _shown(url), error)
        raise failed(url, str(error)) from error
    # Also the errors of httpx, whose base classes cannot be named here without importing it.
    except Exception as error:
        log.warning("failed to download %s: %s: %s", _shown(url), type(error).__name__, error)
        raise failed(url, f"{type(error).__name__}: {error}") from error


def _publish(part: Path, target: Path) -> None:
    """Unlike a rename, a link does not replace the file of another download."""
    try:
        os.link(part, target)
    except FileExistsError as error:
        raise _exists(target) from error
    except OSError:  # a file system without links
        part.replace(target)


def _is_file(url: str) -> bool:
    return url.lower().startswith("file:")


def _shown(url: str) -> str:
    """The URL as it may be logged: presigned URLs carry secrets in their query."""
    return url.partition("?")[0]


def _copied(url: str) -> Iterator[tuple[bytes, int]]:
    parts = urlsplit(url)
    source = Path(unquote(parts.path))
    if parts.netloc.lower() not in ("", "localhost") or not source.is_file():
        raise failed(url, f"{source} is not a file on this machine.")
    size = source.stat().st_size
    with source.open("rb") as file:
        while data := file.read(CHUNK_BYTES):
            yield data, size


def _body(response: "httpx.Response", url: str) -> Iterator[tuple[bytes, int | None]]:
    if not response.is_success:
        status = f"{response.status_code} {response.reason_phrase}".rstrip()
        raise failed(url, f"The server answered {status}.")
    declared = response.headers.get("content-length", "")
    total = int(declared) if declared.isdigit() else None
    for data in response.iter_raw():
        yield data, total
