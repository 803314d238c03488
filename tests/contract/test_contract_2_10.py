"""Contract 2.10: KServe readiness on the management address."""

import pytest
from contract import error


@pytest.fixture(scope="module", autouse=True)
def models(management):
    management.post("/models?url=tell.mar&model_name=idle&initial_workers=0").raise_for_status()


@pytest.mark.parametrize(("name", "ready"), [("tell", True), ("idle", False)])
def test_ready_is_whether_a_worker_can_answer(management, name, ready):
    answer = management.get(f"/v1/models/{name}")
    assert (answer.status_code, answer.json()) == (200, {"name": name, "ready": ready})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(management, method):
    error(management.request(method, "/v1/models/tell"), 405, "MethodNotAllowedException")


def test_unknown_models_are_404(management):
    assert error(management.get("/v1/models/no"), 404, "ModelNotFoundException") == "Model not found: no"
