"""Finds the archive that a URL of the register request means."""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from archive.errors import ArchiveNotFound
from archive.formats.limits import MIB
from archive.store import object_stores
from archive.store.download import Download, Progress, Source, failed, scheme_of
from archive.store.object_stores import OBJECT_STORES
from archive.store.permissions import Permissions, how_to_allow_folder

log = logging.getLogger(__name__)

_URL = re.compile(r"(file?|https?|s3)://.*", re.IGNORECASE | re.DOTALL)
_JAVA_SCHEMES = ("http", "https", "file", "ftp", "jar")
EVERYTHING = Permissions(everything=True)
_ARCHIVES = (".mar", ".model", ".tar.gz")


class ModelStore:
    """The model store directory, and the remote places that it may be filled from.

    By default only archives in the store are allowed; `allowed_urls` and `public_urls` as for `Permissions`.
    `sources` read the URLs of their schemes, also of those that marq reads itself: http, https, file, s3, and
    those of OBJECT_STORES.
    """

    def __init__(
        self,
        root: Path | None,
        allowed_urls: Sequence[str] = (),
        *,
        public_urls: bool = False,
        sources: Mapping[str, Source] | None = None,
        max_download_bytes: int = 64 * 1024 * MIB,
        download_timeout_s: float = 3600.0,
    ) -> None:
        self.root = root
        self._sources = {**dict.fromkeys(OBJECT_STORES, object_stores.received), **(sources or {})}
        self._permissions = Permissions(allowed_urls, public=public_urls)
        self._max_download_bytes = max_download_bytes
        self._download_timeout_s = download_timeout_s

    def resolve(
        self,
        url: str,
        *,
        by_operator: bool = False,
        s3_sse_kms: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """The archive file or model directory for `url`; a remote archive is downloaded into the store.

        What the operator names, at the start, is allowed wherever it is. With `s3_sse_kms` a download over
        http(s) is signed for S3. Raises ArchiveNotFound, ArchiveExists (downloads never replace a file),
        DownloadFailed.
        """
        root, name = self._checked(url)
        permissions = EVERYTHING if by_operator else self._permissions
        if self._is_remote(url):
            permissions.check(url)
            return self._download(url, root / name, permissions, s3_sse_kms, progress)
        try:
            return self._local(root, name, url, permissions)
        except OSError as error:  # a name that is too long, a directory that is closed to this user
            raise ArchiveNotFound(f"Model not found at: {url}", str(error)) from error

    def remove_download(self, url: str) -> None:
        """Deletes the file that `resolve` downloaded for `url`, as unregistering does; others stay."""
        if self.root and self._is_remote(url) and (name := file_name(url)):
            (self.root / name).unlink(missing_ok=True)

    def _is_remote(self, url: str) -> bool:
        return _URL.fullmatch(url) is not None or scheme_of(url) in self._sources

    def all_archives(self) -> list[Path]:
        """The archives that `load_models=all` loads, sorted by name; empty without a model store."""
        if self.root is None:
            log.warning("Model store is not configured.")
            return []
        if not self.root.is_dir():
            log.warning("Model store path is not found: %s", self.root)
            return []
        return [path for path in sorted(self.root.iterdir()) if _loadable(path)]

    def _checked(self, url: str) -> tuple[Path, str]:
        if self.root is None:
            raise ArchiveNotFound("Model store has not been configured.")
        if not url:
            raise ArchiveNotFound("empty url")
        if ".." in url or ".." in unquote(url):
            raise ArchiveNotFound(f"Relative path is not allowed in url: {url}")
        if "\0" in url:
            raise ArchiveNotFound(f"Model not found at: {url}")
        return self.root, file_name(url)

    def _download(
        self, url: str, target: Path, permissions: Permissions, s3_sse_kms: bool, progress: Progress | None
    ) -> Path:
        if target == self.root:
            raise failed(url, "The URL does not end with a file name.")
        download = Download(
            permissions,
            self._max_download_bytes,
            self._download_timeout_s,
            progress,
            s3_sse_kms,
            self._sources,
        )
        download.fetch(url, target)
        return target

    def _local(self, root: Path, name: str, url: str, permissions: Permissions) -> Path:
        """TorchServe loads any directory of the machine; here it must be in the store or be allowed."""
        stored, named = root / name, Path(url)
        if name and stored.is_file():
            return stored
        real = named.resolve()
        is_inside = real != root.resolve() and real.is_relative_to(root.resolve())
        if named.is_dir() and (is_inside or permissions.names(f"file://{real}")):
            return named
        if name and stored.is_dir():
            return stored
        if named.is_file() and permissions is EVERYTHING:
            return named
        if named.is_dir():
            log.warning("%s is outside the model store. %s", named, how_to_allow_folder(real))
        raise ArchiveNotFound(f"Model not found at: {url}")


def file_name(url: str) -> str:
    """The name under which an archive is looked up or stored. Empty if the URL has none.

    The query of a URL does not count, so that presigned URLs work.
    """
    name = re.split(r"[/\\]", _path(url))[-1]
    return "" if name == "." else name


def default_name(path: Path | str) -> str:
    """The name of a model whose manifest has none, as TorchServe derives it from the file's name."""
    name = file_name(str(path))
    if ".model" in name or ".mar" in name:
        name = name.rpartition(".")[0]
    return re.sub(r"\W|^_", "_", name, flags=re.ASCII)


def _path(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises ValueError for a bad port
    except ValueError:
        return url
    return parts.path if parts.scheme in _JAVA_SCHEMES else url


def _loadable(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.name.endswith(_ARCHIVES))
