"""Contract 2.7 and 2.8: the default version, and several versions at a time."""

import httpx
import pytest
from contract import TELL, error, pack, status


@pytest.fixture(scope="module", autouse=True)
def versions(store, management):
    pack(store, "tell", TELL, version="3.0").rename(store / "tell3.mar")
    management.post("/models?url=tell2.mar").raise_for_status()
    pack(store, "tell", TELL)


def ran(server, path):
    return httpx.post(f"{server.inference}/predictions/{path}").json()["version"]


def test_200_and_requests_without_a_version_get_the_new_default(server, management):
    assert ran(server, "tell") == "1.0"  # the first that was registered
    answer = management.put("/models/tell/2.0/set-default")
    assert status(answer, 200) == 'Default version successfully updated for model "tell" to "2.0"'
    assert (ran(server, "tell"), ran(server, "tell/1.0"), ran(server, "tell/2.0")) == ("2.0", "1.0", "2.0")
    assert management.get("/models/tell").json()[0]["modelVersion"] == "2.0"
    status(management.put("/models/tell/1.0/set-default/"), 200)


def test_404_unknown_model(management):
    answer = management.put("/models/no/1.0/set-default")
    assert error(answer, 404, "ModelNotFoundException") == "Model not found: no"


def test_404_unknown_version_without_a_colon(management):
    message = error(management.put("/models/tell/9/set-default"), 404, "ModelVersionNotFoundException")
    assert message == "Model version 9 does not exist for model tell"


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
def test_other_methods_do_nothing_to_the_default_version(management, method):
    """TorchServe takes them for an operation on it."""
    error(management.request(method, "/models/tell/1.0/set-default"), 405, "MethodNotAllowedException")


def test_each_version_has_its_own_workers_and_settings(management):
    management.put("/models/tell/2.0?min_worker=0&synchronous=true").raise_for_status()
    first, second = management.get("/models/tell/all").json()
    assert (len(first["workers"]), len(second["workers"])) == (1, 0)
