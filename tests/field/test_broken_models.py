"""Models that cannot be loaded: nobody waits for them, and they are tried again in the background."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from support import RunningServer, wait_for

HANDLER = """
import pathlib, time

FIXED = pathlib.Path({fixed!r})


def initialize(context):
    time.sleep(0.5)
    if not FIXED.exists():
        raise FileNotFoundError("vocabulary.txt is missing")


class Handler:
    def initialize(self, context):
        initialize(context)

    def handle(self, data, context):
        return ["works"] * len(data)
"""


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """When this file exists, the model can be loaded."""
    return tmp_path_factory.mktemp("fixed") / "fixed"


@pytest.fixture(scope="module")
def server(
    serve_models: Callable[..., RunningServer], make_archive: Callable[..., Path], fixed: Path,
    tmp_path_factory: Any,
) -> RunningServer:  # fmt: skip
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "broken", HANDLER.format(fixed=str(fixed)), {"minWorkers": 1, "maxWorkers": 1})
    return serve_models(store)


@pytest.mark.slow
def test_waiting_clients_get_the_reason_after_two_equal_failures_and_jobs_stay(
    server: RunningServer, fixed: Path
) -> None:
    job = server.submit("broken", b"job")
    began = time.monotonic()
    with ThreadPoolExecutor(3) as executor:
        waiting = [executor.submit(server.predict, "broken", b"x") for _ in range(3)]
        answers = [each.result() for each in waiting]
    assert time.monotonic() - began < 60
    for answer in answers:
        assert answer.status_code == 503
        assert "cannot be loaded" in answer.json()["message"]
        assert "vocabulary.txt is missing" in answer.json()["message"]
    # Clients that come later do not wait at all
    began = time.monotonic()
    assert server.predict("broken", b"x").status_code == 503
    assert time.monotonic() - began < 30
    assert httpx.get(f"{server.inference}/jobs/{job}").json()["state"] == "queued"
    # The next attempt succeeds
    fixed.touch()
    wait_for(lambda: server.predict("broken", b"x").status_code == 200, 60, "the next attempt")
    assert server.result(job).text == "works"
