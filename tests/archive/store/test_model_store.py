import pytest

from archive.errors import ArchiveExists, ArchiveNotFound, DownloadFailed
from archive.store.model_store import ModelStore, default_name, file_name


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "store"
    root.mkdir()
    return root


def message(store, url, error=ArchiveNotFound, **options) -> str:
    with pytest.raises(error) as caught:
        store.resolve(url, **options)
    return str(caught.value)


def test_without_a_model_store_nothing_is_found(tmp_path):
    assert message(ModelStore(None), "m.mar") == "Model store has not been configured."
    assert message(ModelStore(None), "") == "Model store has not been configured."


def test_an_empty_url_is_told(root):
    assert message(ModelStore(root), "") == "empty url"


@pytest.mark.parametrize(
    "url", ["../m.mar", "a..b.mar", "https://h/m.mar?q=..", "file:///a/%2e%2e/m.mar", "https://h/.%2E/m.mar"]
)
def test_two_dots_are_refused_however_they_are_written(root, url):
    store = ModelStore(root, [".*"])
    assert message(store, url) == f"Relative path is not allowed in url: {url}"


@pytest.mark.parametrize(
    "url", ["https://h/m.mar", "HTTP://h/m.mar", "file:///m.mar", "fil://x", "s3://b/m.mar"]
)
def test_by_default_no_url_is_allowed(root, url):
    (root / "m.mar").touch()
    assert message(ModelStore(root), url) == f"Given URL {url} does not match any allowed URL(s)"


def test_a_url_must_match_as_a_whole(root):
    store = ModelStore(root, ["https://good/.*", "https://exact/m"])
    for url in ("https://bad/https://good/m.mar", "https://exact/m.mar"):
        assert "does not match any allowed" in message(store, url)


@pytest.mark.parametrize("url", ["m.mar", "/abs/other/place/m.mar", "sub/m.mar", "C:\\models\\m.mar"])
def test_a_file_is_looked_up_by_its_last_part(root, url):
    (root / "m.mar").touch()
    assert ModelStore(root).resolve(url) == root / "m.mar"


def test_a_directory_of_the_store_is_found_by_name_and_by_path(root):
    (root / "m" / "inner").mkdir(parents=True)
    store = ModelStore(root)
    assert store.resolve("m") == root / "m"
    assert store.resolve(str(root / "m")) == root / "m"
    assert store.resolve(str(root / "m/inner")) == root / "m/inner"


def test_other_directories_are_loaded_only_if_they_are_allowed(root, tmp_path, caplog):
    outside = tmp_path / "outside"
    outside.mkdir()
    assert message(ModelStore(root), str(outside)) == f"Model not found at: {outside}"
    assert f"add this line to config.properties: allowed_urls=file://{outside}" in caplog.text
    assert ModelStore(root, [f"file://{tmp_path}/.*"]).resolve(str(outside)) == outside


def test_an_allowed_directory_is_judged_by_where_it_really_is(root, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "open").mkdir()
    (tmp_path / "open/link").symlink_to(tmp_path / "secret")
    assert message(ModelStore(root, [f"file://{tmp_path}/open/.*"]), f"{tmp_path}/open/link")


def test_a_directory_outside_does_not_hide_one_of_the_store(root, tmp_path):
    (tmp_path / "m").mkdir()
    (root / "m").mkdir()
    assert ModelStore(root).resolve(str(tmp_path / "m")) == root / "m"


@pytest.mark.parametrize("url", ["nope.mar", "m.mar/", ".", "./", "/", "\0", "n" * 5000, "d/" * 5000])
def test_what_is_not_there_is_not_found(root, url):
    (root / "m.mar").touch()
    (root / "other.mar").touch()
    assert message(ModelStore(root), url) == f"Model not found at: {url}"


def test_the_store_itself_is_no_model(root):
    assert message(ModelStore(root), str(root))


def test_a_bad_pattern_is_named():
    with pytest.raises(ValueError, match=r"allowed_urls: '\(' is not a regular expression"):
        ModelStore(None, ["", " ", "("])


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://bucket.s3/a/m.mar?X-Amz-Signature=a/b", "m.mar"),
        ("HTTPS://h/m.mar#part", "m.mar"),
        ("https://h/", ""),
        ("https://h", ""),
        ("http://h:bad/m.mar", "m.mar"),
        ("m.mar?x", "m.mar?x"),
        ("s3://b/m.mar?x", "m.mar?x"),
        ("http://[::1/m.mar", "m.mar"),
        ("a\\b", "b"),
    ],
)
def test_the_name_of_a_url_is_the_last_part_of_its_path(url, name):
    assert file_name(url) == name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("resnet-18.mar", "resnet_18"),
        ("/store/noop.tar.gz", "noop_tar_gz"),
        ("m.v2.model", "m_v2"),
        ("_m.mar", "_m"),
        ("folder", "folder"),
        ("gr\u00fcn.mar", "gr_n"),
        ("https://h/a/m.mar?x=1", "m"),
    ],
)
def test_a_model_without_name_is_called_after_its_file(path, name):
    assert default_name(path) == name


def test_all_archives_are_those_that_torchserve_loads(root):
    for name in ("b.mar", "a.tar.gz", "c.model", "d.zip", ".hidden.mar", "x.mar.part"):
        (root / name).touch()
    (root / "folder").mkdir()
    (root / ".git").mkdir()
    assert [path.name for path in ModelStore(root).all_archives()] == [
        "a.tar.gz",
        "b.mar",
        "c.model",
        "folder",
    ]


def test_without_a_model_store_there_are_no_archives(tmp_path, caplog):
    assert ModelStore(None).all_archives() == []
    assert ModelStore(tmp_path / "nope").all_archives() == []
    assert caplog.messages == [
        "Model store is not configured.",
        f"Model store path is not found: {tmp_path / 'nope'}",
    ]


def test_a_file_url_is_copied_into_the_store(root, tmp_path):
    (tmp_path / "a b.mar").write_bytes(b"data")
    url = f"file://{tmp_path}/a%20b.mar"
    store = ModelStore(root, ["file://.*"])
    path = store.resolve(url)
    assert (path, path.read_bytes()) == (root / "a%20b.mar", b"data")
    # A second time it exists already, and keeps what it has
    assert message(store, url, ArchiveExists) == "Model file already exists a%20b.mar"
    # Unregistering deletes it
    store.remove_download(url)
    assert list(root.iterdir()) == []
    store.remove_download(url)


def test_only_downloads_are_removed(root):
    (root / "m.mar").touch()
    store = ModelStore(root)
    store.remove_download("m.mar")
    store.remove_download("https://h/")
    ModelStore(None).remove_download("https://h/m.mar")
    assert (root / "m.mar").exists()


@pytest.mark.parametrize(
    "url", ["file:///nope/m.mar", "file:///dev/zero", "file:///tmp", "file://host/m.mar"]
)
def test_what_is_no_file_cannot_be_copied(root, url):
    store = ModelStore(root, ["file://.*"])
    assert message(store, url, DownloadFailed) == f"Failed to download archive from: {url}"
    assert list(root.iterdir()) == []


def test_a_url_that_names_no_file_cannot_be_downloaded(root):
    assert message(ModelStore(root, ["https://.*"]), "https://h/models/", DownloadFailed)
