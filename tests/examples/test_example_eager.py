import math

import pytest
import torch

JSON = "application/json"


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("eager", "model", "pack")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


@pytest.fixture(scope="module")
def curve(example):
    return example.pack.train()


@pytest.mark.parametrize("x", [-3, -0.5, 0, 1.0, 2.5])
def test_the_answer_is_the_model_s_own_and_near_the_sine(curve, host, model, x):
    y = host.predict(model, f'{{"x": {x}}}'.encode(), JSON).json()["y"]
    own = curve(torch.tensor([[float(x)]])).item()
    assert y == pytest.approx(own, abs=1e-4)
    assert y == pytest.approx(math.sin(x), abs=0.05)


def test_a_form_is_answered_too(host, model):
    answer = host.predict(model, b"x=1.0", "application/x-www-form-urlencoded")
    assert answer.json()["y"] == pytest.approx(math.sin(1), abs=0.05)


@pytest.mark.parametrize("body", [b'{"x": "one"}', b"{}", b"[1]", b"no json"])
def test_what_is_no_number_is_a_bad_request(host, model, body):
    answer = host.predict(model, body, JSON)
    assert answer.status_code == 400
    assert answer.json()["message"] == 'Send a number, such as {"x": 1.0}'
