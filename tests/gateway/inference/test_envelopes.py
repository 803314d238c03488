"""KServe's protocols end to end: requests of several clients in one batch, through the service envelopes."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

DOUBLE = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    values = [value["data"][0] if isinstance(value, dict) else value for value in data]
    return [[2 * value, len(data)] for value in values]
"""
ROWS = 6


@pytest.fixture(scope="module")
def start_with(start_server, tmp_path_factory, make_archive):
    """Starts a server with an envelope and a model that forms batches of ROWS rows."""
    store = tmp_path_factory.mktemp("store")
    config = {
        "batchSize": ROWS,
        "maxBatchDelay": 60_000,
        "batching": "fixed",
        "minWorkers": 1,
        "maxWorkers": 1,
    }
    make_archive(store, "double", DOUBLE, config=config)

    def start(envelope):
        server = start_server(store, service_envelope=envelope)
        server.wait_until_ready("double")
        return server

    return start


def post_together(url, bodies):
    with ThreadPoolExecutor(len(bodies)) as threads:
        sent = [threads.submit(httpx.post, url, json=body) for body in bodies]
        return [each.result() for each in sent]


def test_kserve_v1_answers_each_request_of_a_batch_with_its_own_predictions(start_with):
    server = start_with("kserve")
    bodies = [{"instances": [number, number + 100]} for number in range(ROWS - 1)] + [{"no": "instances"}]
    answers = post_together(f"{server.inference}/v1/models/double:predict", bodies)
    for number, answer in enumerate(answers[:-1]):
        assert answer.status_code == 200, answer.text
        first, second = answer.json()["predictions"]
        assert (first[0], second[0]) == (2 * number, 2 * (number + 100))
        assert first[1] == 2 * (ROWS - 1)  # rows of all the clients were in the batch
    assert answers[-1].status_code == 400
    assert answers[-1].json()["message"] == 'The body must be a JSON object with a list "instances".'
    explained = post_together(f"{server.inference}/v1/models/double:explain", [{"instances": [4]}] * ROWS)
    assert all(answer.json() == {"explanations": [[8, ROWS]]} for answer in explained)


def test_kserve_v2_answers_each_request_of_a_batch_with_its_own_outputs(start_with):
    server = start_with("kservev2")
    bodies = [
        {"id": f"id-{number}", "inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [number]}]}
        for number in range(ROWS)
    ]
    answers = post_together(f"{server.inference}/v2/models/double/versions/1.0/infer", bodies)
    for number, answer in enumerate(answers):
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert (body["id"], body["model_name"], body["model_version"]) == (f"id-{number}", "double", "1.0")
        (output,) = body["outputs"]
        assert (output["name"], output["datatype"], output["data"]) == ("x", "INT64", [2 * number, ROWS])
