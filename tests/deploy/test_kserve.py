"""KServe's manifests, and the command of the runtime on a folder as KServe mounts it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from ports import free_port
from support import wait_for

FOLDER = Path(__file__).parents[2] / "deploy/kserve"
SERVICES = ("v1", "v1-transformer", "v2", "grpc-v2")
# The fields of KServe's ServingRuntimeSpec and of a predictor's model, and Kubernetes' of a container.
RUNTIME = {
    *("affinity", "annotations", "builtInAdapter", "containers", "disabled", "grpcDataEndpoint"),
    *("grpcEndpoint", "hostIPC", "httpDataEndpoint", "imagePullSecrets", "labels", "multiModel"),
    *("nodeSelector", "protocolVersions", "replicas", "storageHelper", "supportedModelFormats"),
    *("tolerations", "volumes", "workerSpec"),
}
FORMAT = {"autoSelect", "name", "priority", "version"}
CONTAINER = {
    *("args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name"),
    *("ports", "readinessProbe", "resources", "securityContext", "startupProbe", "volumeDevices"),
    *("volumeMounts", "workingDir"),
}
MODEL = CONTAINER | {"modelFormat", "protocolVersion", "runtime", "runtimeVersion", "storage", "storageUri"}
# What TorchServe's image for KServe has: its wrapper, not clients, calls these addresses.
CONFIG = """
inference_address=http://127.0.0.1:8085
management_address=http://127.0.0.1:8085
metrics_address=http://127.0.0.1:8082
enable_envvars_config=true
install_py_dep_per_model=true
enable_metrics_api=true
metrics_mode=prometheus
NUM_WORKERS=1
number_of_netty_threads=4
job_queue_size=10
model_snapshot={snapshot}
"""
SNAPSHOT = {
    "name": "startup.cfg", "modelCount": 1,
    "models": {"twice": {"1.0": {"defaultVersion": True, "marName": "twice.mar", "minWorkers": 1,
                                 "maxWorkers": 5, "batchSize": 5, "maxBatchDelay": 200,
                                 "responseTimeout": 60}}},
}  # fmt: skip
TWICE = """
def handle(data, context):
    return data and [2 * row["number"] for row in data]
"""


def manifest(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return read


def container() -> dict[str, Any]:
    (only,) = manifest("runtime")["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def test_the_runtime_has_only_fields_that_kserve_knows():
    runtime = manifest("runtime")
    assert (runtime["apiVersion"], runtime["kind"]) == (
        "serving.kserve.io/v1alpha1",
        "ClusterServingRuntime",
    )
    assert set(runtime["spec"]) <= RUNTIME
    assert runtime["spec"]["protocolVersions"] == ["v1", "v2", "grpc-v2"]
    (model_format,) = runtime["spec"]["supportedModelFormats"]
    assert set(model_format) <= FORMAT
    assert model_format["name"] == "pytorch"
    assert container()["name"] == "kserve-container"  # the one that KServe completes
    assert set(container()) <= CONTAINER


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_only_fields_that_kserve_knows_and_names_the_runtime(name):
    service = manifest(name)
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert set(model) <= MODEL
    protocol = name.removesuffix("-transformer")
    assert (model["runtime"], model["protocolVersion"]) == (manifest("runtime")["metadata"]["name"], protocol)
    for transformer in service["spec"].get("transformer", {}).get("containers", []):
        assert transformer["name"] == "kserve-container"
        assert set(transformer) <= CONTAINER
    assert all(set(variable) == {"name", "value"} for variable in (*model["env"], *container()["env"]))


@pytest.fixture(scope="module")
def service(tmp_path_factory, make_archive) -> Iterator[str]:
    """The URL of the runtime's command, with the variables of the service v1, on ports that are free."""
    mounted = tmp_path_factory.mktemp("models")
    make_archive(mounted / "model-store", "twice", TWICE)
    (mounted / "config").mkdir()
    (mounted / "config/config.properties").write_text(CONFIG.format(snapshot=json.dumps(SNAPSHOT)))
    port = free_port()
    variables = {each["name"]: each["value"] for each in container()["env"]}
    variables |= {each["name"]: each["value"] for each in manifest("v1")["spec"]["predictor"]["model"]["env"]}
    for name, value in variables.items():
        for given, free in (
            ("8080", port),
            ("8081", free_port()),
            ("8082", free_port()),
            ("7070", free_port()),
        ):
            value = value.replace(given, str(free))
        variables[name] = value
    variables |= {"MARQ_STATE_DIR": str(mounted / "state"), "MARQ_GRPC_MANAGEMENT_PORT": str(free_port())}
    program, *arguments = (each.replace("/mnt/models", str(mounted)) for each in container()["args"])
    with (mounted / "log").open("wb") as log:
        process = subprocess.Popen(
            [Path(sys.executable).parent / program, *arguments, "--foreground"],
            env={**os.environ, **variables}, cwd=mounted, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, (mounted / "log").read_text()
        try:
            return httpx.get(f"{url}/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(is_ready, 120, "the runtime", mounted / "log")
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(90)


def test_torchserve_s_folder_answers_v1_at_kserve_s_port(service):
    assert httpx.get(f"{service}/v1/models/twice").json() == {"name": "twice", "ready": True}
    rows = {"instances": [{"number": 4}, {"number": 5}]}
    answer = httpx.post(f"{service}/v1/models/twice:predict", json=rows)
    assert answer.json() == {"predictions": [8, 10]}
