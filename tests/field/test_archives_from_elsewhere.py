"""Archives outside the model store: what the operator names at the start, and what clients may name."""

import functools
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from shared_server import SharedServer
from support import RunningServer

HANDLER = "def handle(data, context):\n    return None if data is None else ['ok'] * len(data)\n"
Start = Callable[..., RunningServer]


@pytest.fixture(scope="module")
def elsewhere(make_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that is not the model store, with an archive and a model directory."""
    folder = tmp_path_factory.mktemp("elsewhere")
    make_archive(folder, "m", HANDLER, {"minWorkers": 1})
    shutil.unpack_archive(folder / "m.mar", folder / "model", "zip")
    return folder


@pytest.fixture(scope="module")
def web(elsewhere: Path) -> Iterator[str]:
    """The URL of a web server with these archives."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(elsewhere))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def register(server: RunningServer, url: str) -> httpx.Response:
    query = {"url": url, "model_name": "x", "initial_workers": "1", "synchronous": "true"}
    return httpx.post(f"{server.management}/models", params=query, timeout=60)


@pytest.mark.slow
def test_urls_files_and_directories_named_at_the_start_load_with_the_default_settings(
    start_server: Start, web: str, elsewhere: Path, tmp_path: Path
) -> None:
    models = [f"a={web}/m.mar", f"b={elsewhere}/model", f"c={elsewhere}/m.mar"]
    server = start_server(tmp_path, models)
    for name in ("a", "b", "c"):
        server.wait_until_ready(name)
        assert server.predict(name).text == "ok"


def test_a_url_of_a_private_address_is_refused_with_the_line_that_allows_it(
    start_server: Start, shared_server: SharedServer, web: str, tmp_path: Path
) -> None:
    answer = register(shared_server.server, f"{web}/m.mar")
    assert answer.status_code == 404
    line = f"allowed_urls={web}/.*"
    assert f"Given URL {web}/m.mar does not match any allowed URL(s)" in answer.json()["message"]
    assert answer.json()["message"].endswith(f"add this line to config.properties: {line}")
    allowing = start_server(
        tmp_path, [], ["--disable-token-auth", "--enable-model-api"], allowed_urls=line.partition("=")[2]
    )
    assert register(allowing, f"{web}/m.mar").status_code == 200
    assert allowing.predict("x").text == "ok"
