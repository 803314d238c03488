"""The example package, installed into a directory, in one server."""

import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from support import wait_for

PACKAGE = Path(__file__).parents[2] / "examples/plugins"
KEY = "a key of at least thirty-two characters"
TOGETHER = "def handle(data, context):\n    return [str(len(data or []))] * len(data or [])\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The directory with the package, and whether PyJWT is there, too."""
    target, source = tmp_path_factory.mktemp("plugins"), tmp_path_factory.mktemp("source") / "package"
    shutil.copytree(PACKAGE, source)  # pip builds inside of it
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    options = ["--no-build-isolation", "--target", target, source]
    complete = subprocess.run([*command, *options], check=False).returncode == 0
    if not complete:
        subprocess.run([*command, "--no-deps", "--no-index", *options], check=True)
    return target, complete


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXAMPLE_JWT_KEY", KEY)
        patch.setenv("EXAMPLE_AUDIT_FILE", str(tmp_path_factory.mktemp("audit") / "audit.jsonl"))
        yield patch


@pytest.fixture(scope="module")
def server(installed, environment, start_server, make_archive, tmp_path_factory):
    target, _ = installed
    store = tmp_path_factory.mktemp("store")
    settings = {"batching": "like_sizes", "batchSize": 4, "minWorkers": 1, "maxWorkers": 1}
    make_archive(store, "counts", TOGETHER, settings)
    return start_server(store, plugins_path=str(target), plugins_left_out="jwt", max_request_size=7 * 2**20)


def test_the_model_is_ready_when_its_replica_is(server):
    server.wait_until_ready("counts")
    answer = httpx.get(f"{server.inference}/model-ready")
    assert (answer.status_code, answer.json()) == (200, {"Status": "Model/s ready"})
    server.scale("counts", 0)
    answer = httpx.get(f"{server.inference}/model-ready")
    assert (answer.status_code, answer.json()) == (503, {"Status": "Model/s not ready"})
    server.scale("counts", 1)


def test_sagemaker_gets_its_parameters_and_its_ping(server):
    answer = httpx.get(f"{server.inference}/execution-parameters").json()
    assert answer == {"MaxConcurrentTransforms": 1, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": 7}
    server.wait_until_ready("counts")
    answer = httpx.get(f"{server.inference}/sagemaker/ping")
    assert (answer.status_code, answer.json()) == (200, {"Status": "Healthy"})


def test_requests_are_answered_in_batches_of_like_sizes_and_written_down(server, environment):
    server.wait_until_ready("counts")
    bodies = [b"x", b"x" * 1000] * 8
    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(lambda body: server.predict("counts", body), bodies))
    assert {answer.status_code for answer in answers} == {200}
    file = Path(server.environment["EXAMPLE_AUDIT_FILE"])

    def lines():
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    wait_for(lambda: len([line for line in lines() if line["status"] == 200]) >= len(bodies))
    assert {line["request_bytes"] for line in lines()} >= {1, 1000}


def test_tokens_say_who_may_ask_what(installed, environment, start_server, make_archive, tmp_path_factory):
    target, complete = installed
    if not complete:
        pytest.skip("PyJWT cannot be installed: there is no package index")
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "counts", TOGETHER, {"minWorkers": 1, "maxWorkers": 1})
    server = start_server(store, arguments=[], plugins_path=str(target))

    def token(**claims):
        claims = {"exp": int(time.time()) + 600, "models": ["counts"], **claims}
        code = f"import jwt, sys; print(jwt.encode({claims!r}, {KEY!r}, 'HS256'))"
        done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.append({str(target)!r}); {code}"],
                              capture_output=True, text=True, check=True)  # fmt: skip
        return {"Authorization": f"Bearer {done.stdout.strip()}"}

    wait_for(lambda: server.predict("counts", headers=token()).status_code == 200, log=server.log)
    assert server.predict("counts").status_code == 401
    assert server.predict("counts", headers=token(exp=1)).json()["message"].endswith("Signature has expired")
    assert server.predict("counts", headers=token(models=["other"])).status_code == 403
    models = f"{server.management}/models"
    assert httpx.get(models, headers=token()).status_code == 403
    assert httpx.get(models, headers=token(scope="marq:manage")).status_code == 200
    assert httpx.get(f"{server.inference}/jobs", headers=token()).status_code == 403
    assert httpx.get(f"{server.inference}/jobs", headers=token(models=["*"])).status_code == 200
