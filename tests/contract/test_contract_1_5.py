"""Contract 1.5: the routes of the inference address."""

import pytest
from contract import NOT_ALLOWED, NOT_FOUND, TEXT, error, status

ANY = ["GET", "POST", "PUT", "DELETE", "PATCH"]


def run(inference, path, method="POST", **request):
    """What the handler tells of a request."""
    answer = inference.request(method, path, **request)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"] == answer.json()["id"]
    return answer.json()


def test_options_of_the_root_is_the_openapi_document(inference):
    answer = inference.options("/")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["openapi"].startswith("3.")
    assert {
        "/ping", "/v1/models/{model_name}:predict", "/v2/models/{model_name}/infer",
        "/predictions/{model_name}", "/predictions/{model_name}/{model_version}", "/api-description", "/",
        "/jobs/{model}",
    } <= answer.json()["paths"].keys()  # fmt: skip
    assert error(inference.get("/"), 405, "MethodNotAllowedException") == NOT_ALLOWED


@pytest.mark.parametrize("method", ANY)
def test_api_description_is_the_same_document(inference, method):
    assert inference.request(method, "/api-description").json() == inference.options("/").json()


@pytest.mark.parametrize("method", ANY)
@pytest.mark.parametrize("path", ["/ping", "/ping/", "/ping/what/ever"])
def test_ping(inference, method, path):
    assert status(inference.request(method, path), 200) == "Healthy"


# path -> what the handler's headers `explain` and `url_path` are, and what of the query string is in its row
RUNNING = {
    "/predictions/tell": ("False", "", []),
    "/predictions/tell/1.0": ("False", "", []),
    "/predictions/tell/1.0/a/b": ("False", "a/b", []),
    "/explanations/tell": ("True", "", []),
    "/explanations/tell/1.0": ("True", "", []),
    "/explanations/tell/1.0/a/b": ("True", "a/b", []),
    "/v1/models/tell:predict": ("False", None, []),
    "/v1/models/tell:explain": ("True", None, []),
    "/v2/models/tell/infer": ("False", None, []),
    "/v2/models/tell/explain": ("True", None, []),
    "/v2/models/tell/versions/1.0/infer": ("False", None, []),
    "/v2/models/tell/versions/1.0/explain": ("True", None, []),
    "/invocations": (None, None, ["size"]),
    "/models/tell/invoke": (None, None, ["size"]),
    "/tell/predict": (None, None, ["size"]),
    "/tell/1.0/predict": (None, None, ["size"]),
}


@pytest.mark.parametrize("path", RUNNING)
def test_a_model_runs_at(inference, path):
    explain, url_path, from_query = RUNNING[path]
    told = run(inference, f"{path}?size=3", content=b"x", headers={**TEXT, "X-Own": "yes"})
    assert told["headers"] == {
        "explain": explain, "url_path": url_path, "X-Own": "yes", "x-request-id": None, "Authorization": None,
    }  # fmt: skip
    assert told["row"] == dict.fromkeys(from_query, "bytearray 3") | {"body": "x"}


@pytest.mark.parametrize("path", RUNNING)
@pytest.mark.parametrize("method", ANY)
def test_any_method_runs_a_model(inference, method, path):
    assert run(inference, path, method)["row"] == {"body": "bytearray "}


@pytest.mark.parametrize(
    "path", ["/predictions/tell/", "/explanations//tell", "/v2/models/tell/infer/", "/ping/"]
)
def test_trailing_and_double_slashes_do_not_count(inference, path):
    assert inference.post(path).status_code == 200


def test_an_escaped_slash_separates_too(inference):
    assert run(inference, "/predictions/tell%2F1.0%2Fa")["headers"]["url_path"] == "a"


@pytest.mark.parametrize("path", ["/predictions/tell", "/predictions/tell/1.0", "/explanations/tell"])
def test_options_describes_the_model_and_runs_nothing(inference, path):
    document = inference.options(path).json()
    assert document["info"] == {"title": "RESTful API for: tell", "version": "1.0.0"}
    assert {"/predictions/tell", "/v1/models/tell:predict", "/v2/models/tell/infer"} <= document[
        "paths"
    ].keys()
    assert not any("{model_name}" in path for path in document["paths"])
    error(inference.options(path.replace("tell", "no")), 404, "ModelNotFoundException")


NOTHING = {
    "/predictions: fewer than 3 segments": "/predictions",
    "/explanations: fewer than 3 segments": "/explanations/",
    "/models/{m}/{v}: belongs to the management address": "/models/tell/1.0",
    "/wfpredict: fewer than 3 segments": "/wfpredict",
    "/{plugin}: there are no plugins": "/plugin",
    "/metrics: not on this address": "/metrics",
    "/v1/models/{m}:{another verb}": "/v1/models/tell:train",
}


@pytest.mark.parametrize("path", NOTHING.values(), ids=NOTHING.keys())
def test_there_is_nothing_at(inference, path):
    answer = inference.post(path)
    assert answer.status_code in (404, 405)
    if answer.status_code == 404:
        assert error(answer, 404, "ResourceNotFoundException") == NOT_FOUND


OPEN_INFERENCE = {
    "/v2": {
        "name": "Torchserve", "version": "0.12.0",
        "extenstion": ["kserve", "kubeflow"], "extensions": ["kserve", "kubeflow"],
    },
    "/v2/health/live": {"live": True},
    "/v2/health/ready": {"ready": True},
    "/v2/models/tell": {
        "name": "tell", "versions": ["1.0"], "platform": "pytorch_mar", "inputs": [], "outputs": [],
    },
    "/v2/models/tell/versions/1.0": {
        "name": "tell", "versions": ["1.0"], "platform": "pytorch_mar", "inputs": [], "outputs": [],
    },
    "/v2/models/tell/ready": {"name": "tell", "ready": True},
    "/v2/models/tell/versions/1.0/ready": {"name": "tell", "ready": True},
    "/v1/models": {"models": ["tell"]},
    "/v1/models/tell": {"name": "tell", "ready": True},
}  # fmt: skip


@pytest.mark.parametrize("path", OPEN_INFERENCE)
def test_the_open_inference_protocol_is_answered_at(inference, path):
    assert inference.get(path).json() == OPEN_INFERENCE[path]


@pytest.mark.parametrize("path", ["/v2/models/no", "/v2/models/no/ready", "/v1/models/no"])
def test_the_open_inference_protocol_knows_no_other_models(inference, path):
    assert error(inference.get(path), 404, "ModelNotFoundException") == "Model not found: no"


def test_readiness_is_told_as_it_is(inference, management):
    """TorchServe says `true` whatever happens."""
    management.put("/models/tell?min_worker=0&synchronous=true").raise_for_status()
    assert inference.get("/v2/models/tell/ready").json() == {"name": "tell", "ready": False}
    assert inference.get("/v2/models/tell/ready").status_code == 503
    assert inference.get("/v2/health/ready").status_code == 200  # nothing is to run
    management.put("/models/tell?min_worker=1&synchronous=true").raise_for_status()
    assert inference.get("/v2/models/tell/ready").status_code == 200


def test_every_answer_has_torchserves_headers(inference):
    for path in ("/ping", "/predictions/tell", "/explanations/tell", "/nothing", "/v2"):
        headers = inference.get(path).headers
        assert len(headers["x-request-id"]) == 36
        assert headers["pragma"] == "no-cache"
        assert headers["cache-control"] == "no-cache; no-store, must-revalidate, private"
        assert headers["expires"] == "Thu, 01 Jan 1970 00:00:00 UTC"
