"""Archives in other object stores, through fsspec: `gs://bucket/path`, `hf://owner/repository/path`."""

from collections.abc import Iterator

from archive.errors import ArchiveError
from archive.formats.limits import CHUNK_BYTES

OBJECT_STORES = ("gs", "hf", "az", "abfs")  # schemes; those of plugins come first
PACKAGES = {"gs": "gcsfs", "hf": "huggingface_hub", "az": "adlfs", "abfs": "adlfs"}


class StoreUnavailable(ArchiveError):
    """Raised when a package for an object store is missing."""


def received(url: str) -> Iterator[tuple[bytes, int | None]]:
    """The archive piece by piece, each with the size of all if the store says it. Raises StoreUnavailable.

    Credentials are those that the store's own tools would use.
    """
    scheme = url.partition("://")[0].lower()
    try:
        import fsspec

        system, path = fsspec.core.url_to_fs(scheme + url[len(scheme) :])
    except ImportError as error:
        package = PACKAGES[scheme]
        text = f"{scheme}:// needs the packages fsspec and {package}: pip install fsspec {package}"
        raise StoreUnavailable(text) from error
    with system.open(path, "rb") as file:
        size: object = getattr(file, "size", None)
        while data := file.read(CHUNK_BYTES):
            yield data, size if isinstance(size, int) else None
