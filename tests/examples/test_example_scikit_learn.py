import json

import pytest

import marq

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("scikit_learn", "handler", "pack")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


def test_answers_are_the_classifier_s_own(example, host, model):
    from sklearn.datasets import load_iris

    flowers = load_iris().data[::10].tolist()
    own = example.pack.train().predict_proba(flowers)
    with marq.Client(host.server.redis_url) as client:
        rows = [json.dumps(flower).encode() for flower in flowers]
        jobs = client.submit_many(model, rows, content_type="application/json")
        answers = [job.result(timeout=60).json() for job in jobs]
    assert [answer["species"] for answer in answers] == [example.handler.NAMES[row.argmax()] for row in own]
    assert [answer["probability"] for answer in answers] == pytest.approx(own.max(axis=1).tolist(), abs=1e-3)


@pytest.mark.parametrize("body", [b"[1, 2, 3]", b'["a", 2, 3, 4]', b"7", b"no json"])
def test_what_is_no_flower_is_a_bad_request(host, model, body):
    answer = host.predict(model, body, "application/json")
    assert (answer.status_code, answer.json()) == (400, {"error": "Send 4 numbers as JSON."})
