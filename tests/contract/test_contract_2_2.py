"""Contract 2.2: register, with each parameter, default and outcome."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from contract import NOT_ALLOWED, TELL, error, pack, pack_with_requirements, status
from gate import HOLD
from support import wait_for

from gateway.application import management_application
from gateway.auth.tokens import Tokens
from gateway.routing.routes import Routes
from marq.settings.fields import Settings

BROKEN = "raise RuntimeError('this module cannot be imported')"
HUNGRY = "raise MemoryError('too large a model')"
ONE_OF_TWO = (
    HOLD
    + """
import os

def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        try:
            os.close(os.open("taken", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            hold(GATE)
            raise RuntimeError("there can be only one")
        return None  # noqa: RET501
    return ["one"] * len(data)
"""
)
SETTINGS = {
    "allowed_urls": "file:///.*", "default_response_timeout": 77, "default_startup_timeout": 88,
    "install_py_dep_per_model": True,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def archives(store):
    pack(store, "plain", TELL)
    pack(store, "set", TELL, config={"batchSize": 4, "maxBatchDelay": 20, "responseTimeout": 5})
    pack(store, "two", TELL, config={"minWorkers": 2, "maxWorkers": 2})
    pack(store, "broken", BROKEN)
    pack(store, "hungry", HUNGRY)


@pytest.fixture
def register(management):
    """Registers a model that is called `new`, for one test: register(url="plain.mar", batch_size=2)."""

    def register(as_json=None, **query):
        if as_json is not None:
            return management.post("/models", params=query, json={"model_name": "new", **as_json})
        return management.post("/models", params={"model_name": "new", **query})

    yield register
    management.delete("/models/new")


@pytest.fixture(scope="module")
def usual(management):
    """A model that was registered without any parameter that could be left out."""
    management.post("/models?url=plain.mar&model_name=usual&initial_workers=0").raise_for_status()


@pytest.fixture
def described(management):
    return lambda name="new": management.get(f"/models/{name}").json()[0]


# parameters


@pytest.mark.parametrize("form", ["query", "JSON body"])
@pytest.mark.parametrize(
    ("parameter", "value", "key", "shown", "default"),
    [
        pytest.param("batch_size", 8, "batchSize", 8, 1, id="batch_size"),
        pytest.param("max_batch_delay", 7, "maxBatchDelay", 7, 100, id="max_batch_delay"),
        pytest.param("initial_workers", 0, "minWorkers", 0, None, id="initial_workers"),
        pytest.param("response_timeout", 9, "responseTimeout", 9, 77, id="response_timeout"),
        pytest.param("startup_timeout", 99, "startupTimeout", 99, 88, id="startup_timeout"),
        pytest.param("runtime", "python3", "runtime", "python3", "python", id="runtime"),
    ],
)
def test_parameter(register, usual, described, form, parameter, value, key, shown, default):
    given = {"url": "plain.mar", "initial_workers": 0}
    changed = {**given, parameter: value}
    status(register(as_json=changed) if form == "JSON body" else register(**changed), 200)
    assert described()[key] == shown
    if default is not None:
        assert described("usual")[key] == default


def test_parameter_url(register, described):
    message = error(register(), 400, "BadRequestException")
    assert message == "Parameter url is required."
    register(url="plain.mar", initial_workers=0)
    assert described()["modelUrl"] == "plain.mar"


def test_parameter_model_name(management, described):
    management.post("/models?url=plain.mar&initial_workers=0").raise_for_status()
    assert described("plain")["modelName"] == "plain"  # the manifest's
    management.delete("/models/plain").raise_for_status()


def test_parameter_handler(register):
    reason = error(register(url="plain.mar", handler="no_such_module"), 500, "InternalServerException")
    assert "Cannot import handler no_such_module" in reason


def test_parameter_initial_workers_defaults_to_default_workers_per_model(register, described):
    register(url="plain.mar")
    assert (described()["minWorkers"], described()["maxWorkers"]) == (1, 1)


def test_parameter_synchronous_is_true_by_default(register, described):
    status(register(url="plain.mar"), 200)
    assert described()["workers"][0]["status"] == "READY"


def test_parameter_s3_sse_kms_is_false_by_default(register):
    status(register(url="plain.mar", initial_workers=0, s3_sse_kms="false"), 200)


@pytest.mark.parametrize("unset", [{"batch_size": -1}, {"max_batch_delay": -100}, {"response_timeout": -1}])
def test_torchserves_marks_for_not_given(register, described, unset):
    register(url="set.mar", initial_workers=0, **unset)
    found = described()
    assert (found["batchSize"], found["maxBatchDelay"], found["responseTimeout"]) == (4, 20, 5)


def test_a_json_body_makes_the_query_string_ineffective(register, described):
    register(as_json={"url": "plain.mar", "initial_workers": 0}, batch_size=9)
    assert (described()["batchSize"], described()["maxBatchDelay"]) == (1, 100)  # TorchServe: -10000


def test_form_bodies_are_ignored(management):
    answer = management.post("/models", data={"url": "plain.mar"})
    assert error(answer, 400, "BadRequestException") == "Parameter url is required."


# precedence


@pytest.mark.parametrize(
    ("given", "key", "value"),
    [
        pytest.param({"batch_size": 9}, "batchSize", 9, id="batch size: the request's"),
        pytest.param({}, "batchSize", 4, id="batch size: model-config.yaml's"),
        pytest.param({"max_batch_delay": 9}, "maxBatchDelay", 9, id="max batch delay: the request's"),
        pytest.param({}, "maxBatchDelay", 20, id="max batch delay: model-config.yaml's"),
        pytest.param({"response_timeout": 9}, "responseTimeout", 9,
                     id="response timeout: the request's, here before model-config.yaml's"),
        pytest.param({}, "responseTimeout", 5, id="response timeout: model-config.yaml's"),
        pytest.param({}, "startupTimeout", 88, id="startup timeout: default_startup_timeout"),
    ],
)  # fmt: skip
def test_precedence(register, described, given, key, value):
    register(url="set.mar", initial_workers=0, **given)
    assert described()[key] == value


def test_precedence_of_workers_is_model_config_before_the_default(register, described):
    register(url="two.mar", synchronous="false")
    assert (described()["minWorkers"], described()["maxWorkers"]) == (2, 2)


# resolution of the archive


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("", "empty url", id="(2) empty url"),
        pytest.param("../plain.mar", "Relative path is not allowed in url: ../plain.mar",
                     id="(3) contains .."),
        pytest.param("https://127.0.0.1/a.mar",
                     "Given URL https://127.0.0.1/a.mar does not match any allowed URL(s)",
                     id="(5) URL that does not match"),
        pytest.param("no.mar", "Model not found at: no.mar", id="(9) else"),
    ],
)  # fmt: skip
def test_an_archive_that_is_not_found(register, url, message):
    assert error(register(url=url), 404, "ModelNotFoundException").splitlines()[0] == message


# outcomes


def test_outcome_registered_with_0_workers(register):
    assert status(register(url="plain.mar", initial_workers=0), 200) == (
        'Model "new" Version: 1.0 registered with 0 initial workers. '
        "Use scale workers API to add workers for the model."
    )


def test_outcome_synchronous_workers_up(register):
    answer = register(url="plain.mar", initial_workers=1)
    assert status(answer, 200) == 'Model "new" Version: 1.0 registered with 1 initial workers'


def test_outcome_asynchronous(register):
    assert status(register(url="plain.mar", synchronous="false"), 202) == "Processing worker updates..."


def test_outcome_fewer_running_than_the_minimum(register, store, management, gate):
    pack(store, "one_of_two", ONE_OF_TWO.replace("GATE", repr(str(gate))))
    with ThreadPoolExecutor(1) as threads:
        registered = threads.submit(register, url="one_of_two.mar", initial_workers=2)
        wait_for(lambda: management.get("/v1/models/new").json().get("ready"))
        gate.open()
        assert status(registered.result(), 206) == "Workers scaling in progress..."
    assert management.get("/v1/models/new").json()["ready"]


@pytest.mark.parametrize(("name", "code"), [("broken", 500), ("hungry", 507)])
def test_outcome_first_worker_fails(register, management, name, code):
    message = error(register(url=f"{name}.mar"), code, "InternalServerException")
    assert message.splitlines()[0] == "Failed to start workers for model new version: 1.0"
    error(management.get("/models/new"), 404, "ModelNotFoundException")


def test_outcome_asynchronous_failure_stays_registered(register, described):
    status(register(url="broken.mar", synchronous="false"), 202)
    assert described()["modelUrl"] == "broken.mar"


@pytest.mark.parametrize("runtime", ["java", "Python", "lsp"])
def test_outcome_bad_runtime(register, runtime):
    message = error(register(url="plain.mar", runtime=runtime), 400, "BadRequestException")
    assert message == f"Invalid RuntimeType value: {runtime}"


def test_outcome_same_name_and_version(register):
    status(register(url="plain.mar", initial_workers=0), 200)
    message = error(register(url="plain.mar"), 409, "ConflictStatusException")
    assert message == "Model version 1.0 is already registered for model new"


def test_outcome_remote_url_but_the_file_is_in_the_store(register, store, tmp_path):
    (tmp_path / "plain.mar").write_bytes((store / "plain.mar").read_bytes())
    message = error(register(url=f"file://{tmp_path}/plain.mar"), 500, "InternalServerException")
    assert message.splitlines()[0] == "Model file already exists plain.mar"


def test_outcome_download_error(register):
    message = error(register(url="file:///no/such.mar"), 400, "DownloadArchiveException")
    assert message.splitlines()[0] == "Failed to download archive from: file:///no/such.mar"


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"runtime": "python", "model": None}, "Missing Model entry in manifest file."),
        ({"model": {"handler": "h.py", "modelVersion": "1.0"}}, "Model name is not defined."),
        (
            {"model": {"handler": "h.py", "modelName": "m", "modelVersion": ""}},
            "Model version is not defined.",
        ),
        ({"runtime": "java", "model": {"handler": "h.py"}}, "Runtime is not defined or invalid."),
    ],
)
def test_outcome_manifest_problems(management, store, manifest, message):
    import json

    from archive_files import zip_bytes

    files = {"MAR-INF/MANIFEST.json": json.dumps(manifest), "h.py": "def handle(data, context): ..."}
    (store / "odd.mar").write_bytes(zip_bytes(list(files.items())))
    answer = management.post("/models?url=odd.mar&initial_workers=0")
    assert error(answer, 400, "InvalidModelException").splitlines()[0] == message


def test_outcome_pip_install_failed(management, store):
    pack_with_requirements(store, "--no-index\nno-such-package\n")
    message = error(management.post("/models?url=needy.mar"), 400, "ModelException")
    assert message.splitlines()[0] == "Custom pip package installation failed for model needy"


async def test_outcome_api_disabled(redis_url):
    settings = Settings(redis_url=redis_url)
    app = management_application(settings, Routes(settings), Tokens(required=False))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://marq") as client:
        answer = await client.post("/models?url=plain.mar")
    assert error(answer, 405, "MethodNotAllowedException") == NOT_ALLOWED


@pytest.mark.parametrize("body", [b"{", b"", b"[]"])
def test_outcome_malformed_json_body_is_a_400_here(management, body):
    answer = management.post("/models", content=body, headers={"content-type": "application/json"})
    assert error(answer, 400, "BadRequestException").startswith("The body")


def test_a_new_version_does_not_change_the_default(register, described):
    register(url="tell.mar", initial_workers=0)
    register(url="tell2.mar", initial_workers=0)
    assert described()["modelVersion"] == "1.0"
