"""Finds the archive that a URL of the register request means."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from archive.errors import ArchiveNotFound
from archive.formats.limits import MIB
from archive.store.download import Download, Progress, failed

log = logging.getLogger(__name__)

_URL = re.compile(r"(file?|https?|s3)://.*", re.IGNORECASE | re.DOTALL)
_JAVA_SCHEMES = ("http", "https", "file", "ftp", "jar")
_ARCHIVES = (".mar", ".model", ".tar.gz")


class ModelStore:
    """The model store directory, and the remote places (whole-URL regular expressions) it may be filled from.

    By default only archives in the store are allowed. Raises ValueError for a bad expression.
    """

    def __init__(
        self,
        root: Path | None,
        allowed_urls: Sequence[str] = (),
        *,
        max_download_bytes: int = 64 * 1024 * MIB,
        download_timeout_s: float = 3600.0,
    ) -> None:
        self.root = root
        self._allowed = [_compiled(pattern) for pattern in allowed_urls if pattern.strip()]
        self._max_download_bytes = max_download_bytes
        self._download_timeout_s = download_timeout_s

    def resolve(self, url: str, *, s3_sse_kms: bool = False, progress: Progress | None = None) -> Path:
        """The archive file or model directory for `url`; a remote archive is downloaded into the store.

        With `s3_sse_kms` a download over http(s) is signed for S3. Raises ArchiveNotFound, ArchiveExists
        (downloads never replace a file), DownloadFailed.
        """
        root, name = self._checked(url)
        if self._allows(url):
            return self._download(url, root / name, s3_sse_kms, progress)
        if _URL.fullmatch(url):
            raise ArchiveNotFound(f"Given URL {url} does not match any allowed URL(s)")
        try:
            return self._local(root, name, url)
        except OSError as error:  # a name that is too long, a directory that is closed to this user
            raise ArchiveNotFound(f"Model not found at: {url}", str(error)) from error

    def remove_download(self, url: str) -> None:
        """Deletes the file that `resolve` downloaded for `url`, as unregistering does; others stay."""
        if self.root and _URL.fullmatch(url) and (name := file_name(url)):
            (self.root / name).unlink(missing_ok=True)

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

    def _allows(self, url: str) -> bool:
        return any(pattern.fullmatch(url) for pattern in self._allowed)

    def _download(self, url: str, target: Path, s3_sse_kms: bool, progress: Progress | None) -> Path:
        if target == self.root:
            raise failed(url, "The URL does not end with a file name.")
        download = Download(
            self._allows, self._max_download_bytes, self._download_timeout_s, progress, s3_sse_kms
        )
        download.fetch(url, target)
        return target

    def _local(self, root: Path, name: str, url: str) -> Path:
        stored = root / name
        if name and stored.is_file():
            return stored
        if (folder := Path(url)).is_dir() and self._may_load(folder, root):
            return folder
        if name and stored.is_dir():
            return stored
        raise ArchiveNotFound(f"Model not found at: {url}")

    def _may_load(self, folder: Path, root: Path) -> bool:
        """TorchServe loads any directory of the machine; here it must be in the store or be allowed."""
        real = folder.resolve()
        if real != root.resolve() and real.is_relative_to(root.resolve()):
            return True
        if self._allows(f"file://{real}"):
            return True
        log.warning("%s is outside the model store; add file://%s to allowed_urls to load it", folder, real)
        return False


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


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern.strip(), re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"allowed_urls: {pattern!r} is not a regular expression: {error}") from error


def _loadable(path: Path) -> bool:
    return not path.name.startswith(".") and (path.is_dir() or path.name.endswith(_ARCHIVES))
