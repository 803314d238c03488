"""Contract 2.6: unregister."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from contract import TEXT, error, status
from support import wait_for

SETTINGS = {"unregister_model_timeout": 1, "allowed_urls": "file:///.*"}


@pytest.fixture
def register(management):
    def register(url="tell.mar", **parameters):
        management.post("/models", params={"url": url, "model_name": "new", **parameters}).raise_for_status()

    yield register
    management.delete("/models/new/2.0")
    management.delete("/models/new?timeout=50")


@pytest.mark.parametrize("path", ["/models/new", "/models/new/1.0", "/models/new/"])
def test_200_unregistered(management, register, path):
    register(initial_workers=0)
    assert status(management.delete(path), 200) == 'Model "new" unregistered'
    error(management.get("/models/new"), 404, "ModelNotFoundException")


def test_404_model(management):
    assert error(management.delete("/models/no"), 404, "ModelNotFoundException") == "Model not found: no"


def test_404_version(management):
    message = error(management.delete("/models/tell/9"), 404, "ModelVersionNotFoundException")
    assert message == "Model version: 9 does not exist for model: tell"


@pytest.mark.parametrize("path", ["/models/new", "/models/new/1.0"])
def test_403_default_version_while_others_exist(management, register, path):
    register(initial_workers=0)
    register("tell2.mar", initial_workers=0)
    message = error(management.delete(path), 403, "InvalidModelVersionException")
    assert message == "Cannot remove default version for model new"
    status(management.delete("/models/new/2.0"), 200)


def test_408_when_unregister_model_timeout_has_passed_and_the_version_is_put_back(
    server, management, register, gate
):
    register(response_timeout=60)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(server.predict, "new", f"hold {gate}".encode(), headers=TEXT)
        gate.wait_until_reached()
        answer = management.delete("/models/new")
        put_back = management.get("/models/new").json()
        gate.open()
        assert error(answer, 408, "RequestTimeoutException") == "Timed out while cleaning resources: new"
        assert put_back[0]["modelVersion"] == "1.0"
        assert running.result().text == "let go"


def test_what_runs_is_finished_and_what_waits_is_answered(server, management, register, gate):
    """TorchServe kills the worker and answers nothing."""
    register(response_timeout=60)
    new = f"{server.management}/models/new"
    with ThreadPoolExecutor(3) as threads:
        running = threads.submit(server.predict, "new", f"hold {gate}".encode(), headers=TEXT)
        gate.wait_until_reached()
        waiting = threads.submit(server.predict, "new", b"waits", headers=TEXT)
        wait_for(lambda: httpx.get(new).json()[0]["jobQueueStatus"]["pendingRequests"])
        unregistered = threads.submit(management.delete, "/models/new?timeout=50")
        wait_for(lambda: httpx.get(new).status_code == 404)
        server.wait_until_draining("new")
        gate.open()
        status(unregistered.result(), 200)
        assert running.result().text == "let go"
        message = error(waiting.result(), 503, "ServiceUnavailableException")
        assert message == "Model new version 1.0 was unregistered before the request ran."


def test_an_archive_that_was_downloaded_is_deleted_and_a_local_one_is_kept(
    management, register, store, tmp_path
):
    (tmp_path / "fetched.mar").write_bytes((store / "tell.mar").read_bytes())
    register(f"file://{tmp_path}/fetched.mar", initial_workers=0)
    assert (store / "fetched.mar").is_file()
    management.delete("/models/new").raise_for_status()
    assert not (store / "fetched.mar").exists()
    register("tell.mar", initial_workers=0)
    management.delete("/models/new").raise_for_status()
    assert (store / "tell.mar").is_file()
