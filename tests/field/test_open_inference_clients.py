"""Clients of other projects call KServe's protocols: each in an environment of its own."""

import subprocess
import sys

import pytest
from ports import free_port

pytestmark = pytest.mark.slow

DOUBLE = """
def handle(data, context):
    if data is None:
        return None
    answers = []
    for row in data:
        (given,) = row["body"]["inputs"]
        doubled = {**given, "name": "y", "data": [2 * each for each in given["data"]]}
        answers.append({"id": row["body"].get("id", ""), "model_name": "double", "outputs": [doubled]})
    return answers
"""
TRITON = """
import sys

import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("double")
assert client.get_server_metadata().name == "Torchserve"
assert list(client.get_model_metadata("double").versions) == ["1.0"]
for datatype, kind in (("FP32", np.float32), ("FP16", np.float16), ("INT64", np.int64), ("UINT8", np.uint8)):
    values = np.arange(6).reshape(2, 3).astype(kind)
    given = triton.InferInput("x", [2, 3], datatype)
    given.set_data_from_numpy(values)
    found = client.infer("double", [given], request_id="5", outputs=[triton.InferRequestedOutput("y")])
    assert found.as_numpy("y").dtype == kind and (found.as_numpy("y") == 2 * values).all(), datatype
    assert found.get_response().id == "5"
try:
    client.infer("no", [given])
except triton.InferenceServerException as error:
    assert error.status() == "StatusCode.NOT_FOUND", error
else:
    raise AssertionError("an unknown model answered")
"""
KSERVE = """
import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def main():
    client = InferenceGRPCClient(url=sys.argv[1])
    assert await client.is_server_live() and await client.is_model_ready("double")
    values = np.array([[1, 2], [3, 4]], np.float32)
    for is_binary in (False, True):
        given = InferInput(name="x", shape=[2, 2], datatype="FP32")
        given.set_data_from_numpy(values, binary_data=is_binary)
        request = InferRequest(model_name="double", infer_inputs=[given], request_id="8")
        found = await client.infer(request)
        assert found.id == "8" and (found.outputs[0].as_numpy() == 2 * values).all()


asyncio.run(main())
"""
TRITON_HTTP = """
import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[2])
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("double")
assert client.get_model_metadata("double")["versions"] == ["1.0"]
for is_binary in (False, True):
    for datatype, kind in (("FP32", np.float32), ("INT64", np.int64), ("FP16", np.float16)):
        if datatype == "FP16" and not is_binary:
            continue  # the protocol has no JSON for it
        values = np.arange(6).reshape(2, 3).astype(kind)
        given = triton.InferInput("x", [2, 3], datatype)
        given.set_data_from_numpy(values, binary_data=is_binary)
        for outputs in (None, [triton.InferRequestedOutput("y", binary_data=is_binary)]):
            found = client.infer("double", [given], request_id="5", outputs=outputs)
            assert found.as_numpy("y").dtype == kind and (found.as_numpy("y") == 2 * values).all(), datatype
            assert found.get_response()["id"] == "5"
try:
    client.infer("no", [given])
except triton.InferenceServerException as error:
    assert "404" in str(error.status()), error
else:
    raise AssertionError("an unknown model answered")
"""
KSERVE_REST = """
import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main():
    client, url = InferenceRESTClient(RESTConfig(protocol="v2")), "http://" + sys.argv[2]
    assert await client.is_server_live(url) and await client.is_server_ready(url)
    assert await client.is_model_ready(url, "double")
    values = np.array([[1, 2], [3, 4]], np.float32)
    for is_binary in (False, True):
        given = InferInput(name="x", shape=[2, 2], datatype="FP32")
        given.set_data_from_numpy(values, binary_data=is_binary)
        request = InferRequest(model_name="double", infer_inputs=[given], request_id="8")
        found = await client.infer(url, request, model_name="double")
        assert found.id == "8" and (found.outputs[0].as_numpy() == 2 * values).all()


asyncio.run(main())
"""
TWICE = """
def handle(data, context):
    return data and [{"predictions": [2 * each for each in row["body"]["instances"]]} for row in data]
"""
TRANSFORMER = """
import asyncio
import sys

from kserve import Model, PredictorConfig
from kserve.context import set_predictor_config


class Words(Model):
    async def preprocess(self, payload, headers=None):
        return {"instances": [len(word) for word in payload["instances"]]}

    async def postprocess(self, result, headers=None, response_headers=None):
        return {"predictions": [f"{each} letters" for each in result["predictions"]]}


async def main():
    set_predictor_config(PredictorConfig(sys.argv[2], "v1"))
    model = Words("twice")
    model.ready = True
    found, _ = await model({"instances": ["a", "four"]}, headers={})
    assert found == {"predictions": ["2 letters", "8 letters"]}, found


asyncio.run(main())
"""


@pytest.fixture(scope="module")
def addresses(start_server, make_archive, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    for name, handler in (("double", DOUBLE), ("twice", TWICE)):
        make_archive(store, name, handler, {"minWorkers": 1, "maxWorkers": 1})
    ports = {f"grpc_{api}_port": free_port() for api in ("inference", "management")}
    server = start_server(store, gateway_workers=1, enable_grpc=True, **ports)
    for name in ("double", "twice"):
        server.wait_until_ready(name)
    return f"127.0.0.1:{ports['grpc_inference_port']}", server.inference.removeprefix("http://")


@pytest.mark.parametrize(
    ("package", "script"),
    [
        ("tritonclient[grpc]==2.73.0", TRITON),
        ("tritonclient[http]==2.73.0", TRITON_HTTP),
        ("kserve==0.21.0", KSERVE),
        ("kserve==0.21.0", KSERVE_REST),
        ("kserve==0.21.0", TRANSFORMER),
    ],
)
def test_a_client_is_answered(addresses, tmp_path, package, script):
    file = tmp_path / "client.py"
    file.write_text(script)
    uv = [sys.executable, "-m", "uv", "run", "--no-project", "--isolated", "--python", sys.executable]
    done = subprocess.run(
        [*uv, "--with", package, "python", file, *addresses], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
