"""Archives come from object stores through fsspec, and from sources of other schemes."""

import sys
from typing import ClassVar

import pytest

from archive.errors import ArchiveExists, ArchiveNotFound, DownloadFailed
from archive.store.model_store import ModelStore

fsspec = pytest.importorskip("fsspec")
DATA = bytes(range(256)) * 10_000


@pytest.fixture
def bucket(monkeypatch):
    """A bucket in memory that `gs://` and `hf://` lead to."""
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        protocol = ("gs", "hf")
        store: ClassVar[dict[str, object]] = {}
        pseudo_dirs: ClassVar[list[str]] = [""]

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.partition("://")[2].strip("/") if "://" in path else path

    for scheme in Bucket.protocol:
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, scheme, Bucket)
    with Bucket().open("/models/digits.mar", "wb") as file:
        file.write(DATA)
    return Bucket


@pytest.mark.parametrize(
    "url", ["gs://models/digits.mar", "hf://models/digits.mar", "GS://models/digits.mar"]
)
def test_an_archive_comes_from_a_bucket_that_is_allowed(bucket, tmp_path, url):
    seen = []
    store = ModelStore(tmp_path, ["(gs|hf)://models/.*"])
    found = store.resolve(url, progress=lambda done, total: seen.append((done, total)))
    assert (found, found.read_bytes()) == (tmp_path / "digits.mar", DATA)
    assert seen[-1] == (len(DATA), len(DATA))
    with pytest.raises(ArchiveExists):
        store.resolve(url)
    store.remove_download(url)
    assert not found.exists()


def test_a_bucket_that_is_not_allowed_is_not_asked(bucket, tmp_path):
    with pytest.raises(ArchiveNotFound, match="does not match any allowed URL") as raised:
        ModelStore(tmp_path, public_urls=True).resolve("gs://models/digits.mar")
    assert "allowed_urls=gs://models/.*" in raised.value.reason
    assert list(tmp_path.iterdir()) == []


def test_a_missing_object_is_a_failed_download(bucket, tmp_path):
    with pytest.raises(DownloadFailed, match="Failed to download archive from"):
        ModelStore(tmp_path, ["gs://.*"]).resolve("gs://models/other.mar")
    assert list(tmp_path.iterdir()) == []


def test_the_missing_packages_are_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(DownloadFailed) as raised:
        ModelStore(tmp_path, ["gs://.*"]).resolve("gs://models/digits.mar")
    assert raised.value.reason == "gs:// needs the packages fsspec and gcsfs: pip install fsspec gcsfs"


def attic(url):
    yield url.encode(), None


def broken(url):
    yield b"half of it", None
    raise ConnectionError("the attic is locked")


def test_a_source_reads_the_urls_of_its_scheme(tmp_path):
    store = ModelStore(tmp_path, ["attic://.*"], sources={"attic": attic})
    assert store.resolve("attic://box/m.mar").read_bytes() == b"attic://box/m.mar"
    with pytest.raises(ArchiveNotFound, match="Model not found at"):
        store.resolve("cellar://box/n.mar")


def test_a_source_that_fails_leaves_nothing(tmp_path):
    store = ModelStore(tmp_path, ["attic://.*"], sources={"attic": broken})
    with pytest.raises(DownloadFailed) as raised:
        store.resolve("attic://box/m.mar")
    assert raised.value.reason == "ConnectionError: the attic is locked"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("scheme", ["gs", "s3"])
def test_a_source_may_replace_the_one_of_marq(tmp_path, scheme):
    store = ModelStore(tmp_path, [f"{scheme}://.*"], sources={scheme: attic})
    assert store.resolve(f"{scheme}://box/m.mar").read_bytes() == f"{scheme}://box/m.mar".encode()
