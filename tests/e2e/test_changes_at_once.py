"""Changes of the registry over HTTP: many at once, and what other gateways know when one is answered."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import churn
import httpx
import psutil
import pytest
from support import RunningServer, wait_for

ROUNDS = 4
LEFT = "/models/left"
FIRST, SECOND = ({"url": f"left-{version}.mar", "initial_workers": 1} for version in churn.VERSIONS)


@pytest.fixture(scope="module")
def server(start_server, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    churn.pack(store, tmp_path_factory.mktemp("sources"))
    arguments = ["--disable-token-auth", "--enable-model-api"]
    running: RunningServer = start_server(store, [], arguments, gateway_workers=2)
    return running


# Each: method, path, query, then the statuses of predictions afterwards
CHANGES: list[tuple[str, str, dict[str, object], dict[str, int]]] = [
    ("POST", "/models", FIRST, {"left/1.0": 200, "left/2.0": 404}),
    ("POST", "/models", {**SECOND, "synchronous": "false"}, {"left": 200}),
    ("PUT", f"{LEFT}/2.0/set-default", {}, {"left/1.0": 200}),
    ("POST", f"{LEFT}/2.0/reload", {"synchronous": "true"}, {"left/2.0": 200}),
    ("PUT", f"{LEFT}/1.0", {"min_worker": 0, "synchronous": "true"}, {"left/1.0": 503}),
    ("PUT", f"{LEFT}/1.0", {"min_worker": 1, "synchronous": "true"}, {"left/1.0": 200}),
    ("DELETE", f"{LEFT}/1.0", {}, {"left/1.0": 404, "left": 200}),
    ("DELETE", f"{LEFT}/2.0", {}, {"left/2.0": 404, "left": 404}),
]


@pytest.mark.slow
def test_a_change_is_answered_when_every_gateway_knows_it(server: RunningServer) -> None:
    # Given a gateway that does not run while the other one gets a change
    stopped = next(
        process
        for process in psutil.Process(server.process.pid).children()
        if process.cmdline()[-1:] == ["gateway"]
    )
    for method, path, query, known in CHANGES:
        with ThreadPoolExecutor(1) as thread:
            stopped.suspend()
            try:
                url = f"{server.management}{path}"
                change = thread.submit(httpx.request, method, url, params=query, timeout=100)
                time.sleep(1)
                is_early = change.done()
            finally:
                stopped.resume()
            answer = change.result()
        # Then it is answered only when that one has read it, and all answer accordingly
        assert answer.is_success, answer.text
        assert not is_early, (method, path)
        for _ in range(churn.CONNECTIONS):
            found = {model: server.predict(model, b"x").status_code for model in known}
            assert found == known, (method, path)
        if path.endswith("set-default"):
            assert {server.predict("left", b"x").text for _ in range(churn.CONNECTIONS)} == {"left 2.0"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(ROUNDS))
def test_all_views_agree_after_fifty_changes_at_once(server: RunningServer, seed: int) -> None:
    assert churn.churn(server, seed) == []
    differences: list[str] = []

    def agree() -> bool:
        differences[:] = churn.disagreements(server)
        return not differences

    try:
        wait_for(agree, 150, "agreement", server.log)
    except AssertionError as error:
        raise AssertionError(differences) from error
