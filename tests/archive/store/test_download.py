import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from archive.errors import ArchiveExists, DownloadFailed
from archive.store import download
from archive.store.model_store import ModelStore

DATA = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.partition("?")[0]
        getattr(self, "get_" + path.strip("/").partition(".")[0].replace("/", "_"), self.get_missing)()

    def get_missing(self):
        self.send_error(404)

    def get_m(self):
        self.answer(DATA)

    def get_packed(self):
        self.answer(gzip.compress(DATA), ("Content-Encoding", "gzip"))

    def get_short(self):
        self.answer(DATA, length=len(DATA) + 10)

    def get_unknown(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(DATA)

    def get_moved(self):
        self.redirect("/m.mar")

    def get_away(self):
        self.redirect("http://169.254.169.254/m.mar")

    def get_local(self):
        self.redirect("file:///etc/passwd")

    def get_loop(self):
        self.redirect("/loop.mar")

    def redirect(self, to):
        self.send_response(302)
        self.send_header("Location", to)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, data, *headers, length=None):
        self.send_response(200)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length or len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def root(tmp_path):
    return tmp_path


@pytest.fixture
def store(root, server):
    return ModelStore(root, [f"{server}/.*", "file://.*"])


def reason(store, url) -> str:
    with pytest.raises(DownloadFailed) as caught:
        store.resolve(url)
    assert str(caught.value) == f"Failed to download archive from: {url}"
    assert list(store.root.iterdir()) == []
    return caught.value.reason


def test_an_archive_is_downloaded_into_the_store(store, root, server, caplog):
    caplog.set_level("INFO")
    seen = []
    path = store.resolve(f"{server}/m.mar?X-Amz-Signature=secret", progress=lambda *args: seen.append(args))
    assert (path, path.read_bytes()) == (root / "m.mar", DATA)
    assert list(root.iterdir()) == [path]
    assert seen[-1] == (len(DATA), len(DATA))
    assert f"downloaded m.mar: {len(DATA)} bytes" in caplog.text


def test_a_body_of_unknown_size_is_downloaded(store, server):
    seen = []
    path = store.resolve(f"{server}/unknown.mar", progress=lambda *args: seen.append(args))
    assert path.read_bytes() == DATA
    assert seen[-1] == (len(DATA), None)


def test_a_file_of_the_store_is_never_replaced(store, root, server):
    (root / "m.mar").write_bytes(b"old")
    with pytest.raises(ArchiveExists, match=r"^Model file already exists m\.mar$"):
        store.resolve(f"{server}/m.mar")
    assert (root / "m.mar").read_bytes() == b"old"


def test_nor_is_one_that_appears_during_the_download(store, root, server):
    def appear(*args):
        (root / "m.mar").write_bytes(b"other")

    with pytest.raises(ArchiveExists):
        store.resolve(f"{server}/m.mar", progress=appear)
    assert [(path.name, path.read_bytes()) for path in root.iterdir()] == [("m.mar", b"other")]


def test_a_file_system_without_links_will_do(store, server, monkeypatch):
    def refuse(*args):
        raise PermissionError("no links")

    monkeypatch.setattr(download.os, "link", refuse)
    assert store.resolve(f"{server}/m.mar").read_bytes() == DATA


def test_bytes_are_stored_as_they_were_sent(store, server):
    assert store.resolve(f"{server}/packed.tar.gz").read_bytes() == gzip.compress(DATA)


def test_an_error_of_the_server_is_told(store, server, caplog):
    assert reason(store, f"{server}/nope.mar?token=secret").startswith("The server answered 404")
    assert "404" in caplog.text
    assert "secret" not in caplog.text


def test_an_incomplete_body_is_an_error(store, server):
    assert "complete" in reason(store, f"{server}/short.mar")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/m.mar", "http://localhost:aaaa/m.mar", "http://[::1/m.mar"]
)
def test_a_server_that_cannot_be_reached_is_an_error(root, url):
    assert reason(ModelStore(root, ["http://.*"]), url)


@pytest.mark.parametrize("name", ["m.mar", "unknown.mar"])
def test_the_size_is_limited_whether_it_is_declared_or_not(root, server, name):
    store = ModelStore(root, [".*"], max_download_bytes=len(DATA) - 1)
    assert reason(store, f"{server}/{name}") == f"It is larger than the limit of {len(DATA) - 1} bytes."
    assert ModelStore(root, [".*"], max_download_bytes=len(DATA)).resolve(f"{server}/{name}")


def test_a_copy_is_limited_as_well(root, tmp_path_factory):
    source = tmp_path_factory.mktemp("other") / "m.mar"
    source.write_bytes(DATA)
    assert "larger" in reason(ModelStore(root, [".*"], max_download_bytes=10), f"file://{source}")


def test_the_time_is_limited(root, server):
    store = ModelStore(root, [".*"], download_timeout_s=0.0)
    assert reason(store, f"{server}/m.mar") == "It took longer than the limit of 0 s."


def test_redirects_are_followed_to_allowed_places_only(store, server):
    assert "redirects to http://169.254.169.254/m.mar, which" in reason(store, f"{server}/away.mar")
    assert "redirects to file:///etc/passwd" in reason(store, f"{server}/local.mar")
    assert reason(store, f"{server}/loop.mar") == "It was redirected more than 5 times."
    assert store.resolve(f"{server}/moved.mar").name == "moved.mar"


def test_progress_is_logged_for_large_files(store, server, monkeypatch, caplog):
    monkeypatch.setattr(download, "_LOG_EVERY_BYTES", 100_000)
    caplog.set_level("INFO")
    store.resolve(f"{server}/m.mar")
    assert sum(message.startswith("downloading m.mar: ") for message in caplog.messages) == 2
