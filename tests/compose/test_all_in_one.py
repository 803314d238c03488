"""`docker run` alone, as with TorchServe's image: `make test-compose`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import grpc_stubs
import httpx
import pytest
import yaml
from containers import ROOT, docker, inspect, log, published, wait_until_healthy
from support import wait_for

from gateway.grpc.messages.open_inference_pb2 import ModelInferRequest

pytestmark = pytest.mark.timeout(2400)
STORE = "/home/model-server/model-store"


@pytest.fixture(scope="module")
def container(all_in_one: str, store: Path) -> Iterator[str]:
    made = docker(
        "run", "--detach", "--volume", f"{store}:{STORE}",
        *(f"--publish=127.0.0.1::{port}" for port in (8080, 8081, 8082)), all_in_one,
    )  # fmt: skip
    try:
        wait_until_healthy([made])
        yield made
    finally:
        docker("rm", "--force", "--volumes", made)


def test_it_serves_the_model_store_without_tokens_as_torchserve_s_image_does(container: str):
    def predict() -> bool:
        url = f"{published(container, 8080)}/predictions/square"
        return httpx.post(url, json=12, timeout=30).text == "144"

    wait_for(predict, 60, "a replica")
    (model,) = httpx.get(f"{published(container, 8081)}/models/square").json()
    assert model["modelUrl"] == "square.mar"
    assert "marq_" in httpx.get(f"{published(container, 8082)}/metrics").text


def test_it_has_torchserve_s_ports_user_and_directories(container: str, all_in_one: str):
    log.info("image: %.0f MB", int(docker("image", "inspect", "-f", "{{.Size}}", all_in_one)) / 1e6)
    config = inspect(container)["Config"]
    assert set(config["ExposedPorts"]) == {f"{port}/tcp" for port in (8080, 8081, 8082, 7070, 7071)}
    assert (config["User"], config["WorkingDir"]) == ("model-server", "/home/model-server")
    assert docker("exec", container, "id", "-u") == "1000"
    assert (
        docker("exec", container, "which", "torchserve", "torch-model-archiver").count("/home/venv/bin") == 2
    )


def test_a_stopped_container_ends_in_order_and_starts_again(container: str):
    docker("stop", "--time", "75", container, timeout_s=100)
    state = inspect(container)["State"]
    assert (state["ExitCode"], state["OOMKilled"]) == (0, False)
    docker("start", container)
    wait_until_healthy([container])


def test_torchserve_s_command_stays_in_the_foreground(all_in_one: str, store: Path):
    made = docker(
        "run", "--detach", "--volume", f"{store}:{STORE}:ro", "--publish=127.0.0.1::8080", all_in_one,
        "torchserve", "--start", "--ncs", "--disable-token-auth", "--models", "squares=square.mar",
    )  # fmt: skip
    try:
        wait_until_healthy([made])
        url = f"{published(made, 8080)}/predictions/squares"
        wait_for(lambda: httpx.post(url, json=3, timeout=30).text == "9", 60, "a replica")
    finally:
        docker("rm", "--force", "--volumes", made)


KSERVE_HANDLER = """
def handle(data, context):
    if data is None:
        return None
    return [[2 * each for each in row["data"]] if "data" in row else 2 * row["number"] for row in data]
"""
PROPERTIES = """
inference_address=http://0.0.0.0:8085
management_address=http://0.0.0.0:8085
metrics_address=http://0.0.0.0:8082
grpc_inference_port=7070
grpc_management_port=7071
install_py_dep_per_model=true
NUM_WORKERS=1
model_store=/mnt/models/model-store
model_snapshot={"name":"startup.cfg","modelCount":1,"models":{"double":{"1.0":{"defaultVersion":true,"marName":"double.mar","minWorkers":1,"maxWorkers":1,"batchSize":1,"maxBatchDelay":10,"responseTimeout":120}}}}
"""


def in_kserve(service: str, image: str, models: Path) -> str:
    """A container of the runtime, with the variables of a service, as KServe's controller makes it."""
    runtime = yaml.safe_load((ROOT / "deploy/kserve/runtime.yaml").read_text())
    (wanted,) = runtime["spec"]["containers"]
    model = yaml.safe_load((ROOT / f"deploy/kserve/{service}.yaml").read_text())["spec"]["predictor"]["model"]
    variables = [f"--env={each['name']}={each['value']}" for each in (*wanted["env"], *model["env"])]
    return docker(
        "run", "--detach", "--user", str(wanted["securityContext"]["runAsUser"]), "--cap-drop=ALL",
        "--volume", f"{models}:/mnt/models:ro", "--publish=127.0.0.1::8080", "--publish=127.0.0.1::7070",
        *variables, image, *wanted["args"],
    )  # fmt: skip


@pytest.fixture
def models(tmp_path_factory: pytest.TempPathFactory, make_archive: Callable[..., Path]) -> Path:
    """A folder like TorchServe's in KServe's storage."""
    folder = tmp_path_factory.mktemp("models")
    make_archive(folder / "model-store", "double", KSERVE_HANDLER)
    (folder / "config").mkdir()
    (folder / "config/config.properties").write_text(PROPERTIES)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    return folder


def test_kserve_s_runtime_answers_v1(all_in_one: str, models: Path):
    made = in_kserve("v1", all_in_one, models)
    try:
        url = published(made, 8080)
        wait_for(lambda: is_ready(url), 120, "the runtime")
        answer = httpx.post(
            f"{url}/v1/models/double:predict", json={"instances": [{"number": 4}]}, timeout=30
        )
        assert answer.json() == {"predictions": [8]}
    finally:
        docker("rm", "--force", "--volumes", made)


def test_kserve_s_runtime_answers_grpc(all_in_one: str, models: Path):
    made = in_kserve("grpc-v2", all_in_one, models)
    try:
        wait_for(lambda: is_ready(published(made, 8080)), 120, "the runtime")
        with grpc.insecure_channel(published(made, 7070).removeprefix("http://")) as channel:
            given = ModelInferRequest.InferInputTensor(name="x", datatype="INT64", shape=[2])
            given.contents.int64_contents.extend([1, 2])
            stub = grpc_stubs.open_inference(channel, "inference.GRPCInferenceService")
            found = stub.ModelInfer(ModelInferRequest(model_name="double", inputs=[given]), timeout=30)
        assert list(found.outputs[0].contents.int64_contents) == [2, 4]
    finally:
        docker("rm", "--force", "--volumes", made)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=5).status_code == 200
    except httpx.TransportError:
        return False
