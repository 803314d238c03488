import json

import pytest
import torch

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ROWS = [[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 0.5, 2.0]]


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("onnx", "pack")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


@pytest.mark.parametrize("row", ROWS)
def test_answers_are_those_of_the_network_in_pytorch(example, host, model, row):
    answer = host.predict(model, json.dumps(row).encode(), "application/json").json()
    assert answer == pytest.approx(example.pack.network()(torch.tensor([row]))[0].tolist(), abs=1e-5)


def test_a_batch_is_answered_in_order(example, host, model):
    import marq

    with marq.Client(host.server.redis_url) as client:
        rows = [json.dumps(row).encode() for row in ROWS * 3]
        jobs = client.submit_many(model, rows, content_type="application/json")
        answers = [job.result(timeout=60).json() for job in jobs]
    own = example.pack.network()(torch.tensor(ROWS * 3)).tolist()
    assert answers == [pytest.approx(row, abs=1e-5) for row in own]
