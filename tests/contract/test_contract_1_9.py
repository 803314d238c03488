"""Contract 1.9: the errors of the inference address, and their texts."""

import httpx
import pytest
from contract import TELL, TEXT, error, pack

from marq.queue.entries import Request
from workers.handler.call import HandlerCall

SETTINGS = {"max_request_size": 10_000, "max_response_size": 1_000_000}
NO_WORKER = (
    "has no worker to serve inference request. Please use scale workers API to add workers. If this is a "
    "sequence inference, please check if it is closed, or expired; or exceeds maxSequenceJobQueueSize"
)
FAILED, INTERNAL = "Prediction failed", "InternalServerException"
UNAVAILABLE = "ServiceUnavailableException"


@pytest.fixture(scope="module")
def idle(management):
    management.post("/models?url=tell.mar&model_name=idle&initial_workers=0").raise_for_status()


@pytest.mark.parametrize(
    ("path", "code", "kind", "message"),
    [
        pytest.param("no", 404, "ModelNotFoundException", "Model not found: no", id="Unknown model"),
        pytest.param("tell/9", 404, "ModelVersionNotFoundException",
                     "Model version: 9 does not exist for model: tell", id="Unknown version"),
        pytest.param("idle", 503, UNAVAILABLE, f'Model "idle" {NO_WORKER}', id="No worker threads"),
        pytest.param("idle/1.0", 503, UNAVAILABLE, f'Model "idle" Version 1.0" {NO_WORKER}',
                     id="No worker threads, with a version"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["predictions", "explanations"])
def test_a_request_that_nothing_would_take(inference, idle, route, path, code, kind, message):
    assert error(inference.post(f"/{route}/{path}"), code, kind) == message


@pytest.mark.parametrize(
    ("order", "code", "message"),
    [
        pytest.param("raise", 503, FAILED, id="Handler raised any exception"),
        pytest.param("cuda", 507, "Out of resources", id="Exception text contains CUDA"),
        pytest.param("memory", 507, "Out of resources", id="MemoryError"),
        pytest.param("code", 500, "no code", id="PredictionException"),
        pytest.param("code 599", 599, "own words", id="PredictionException with a status of its own"),
        pytest.param("code 413", 507, "too much", id="PredictionException 413"),
        pytest.param("no list", 503, "Invalid model predict output", id="Handler returned non-list"),
        pytest.param("too few", 503, "number of batch response mismatched", id="len(ret) is not the batch's"),
        pytest.param("no json", 503, "Unsupported model output data type.", id="Output is no JSON"),
        pytest.param("large", 500, "The response has 2000000 bytes; max_response_size allows 1000000.",
                     id="Response larger than max_response_size: here only this request"),
        pytest.param("hang", 500, "Worker died.", id="Worker did not answer within responseTimeout"),
        pytest.param("die", 500, "Worker died.", id="Worker process crashed"),
    ],
)  # fmt: skip
def test_a_handler_that_fails(inference, order, code, message):
    answer = inference.post("/predictions/tell", content=order, headers=TEXT)
    assert error(answer, code, INTERNAL).splitlines()[0] == message


@pytest.mark.parametrize(
    ("order", "came"),
    [("no list", "str for a batch of 1, not a list"), ("too few", "a list of 0 for a batch of 1")],
)
def test_a_client_reads_what_a_handler_returned_instead(inference, order, came):
    message = error(inference.post("/predictions/tell", content=order, headers=TEXT), 503, INTERNAL)
    assert message.splitlines()[1:] == [f"The handler returned {came}."]


def test_an_error_status_that_the_handler_sets_keeps_its_body(inference):
    answer = inference.post("/predictions/tell", content="refuse", headers=TEXT)
    assert (answer.status_code, answer.text) == (418, "short and stout")
    assert answer.headers["content-type"] == "text/tea"


def test_body_larger_than_max_request_size(inference):
    answer = inference.post("/explanations/tell", content=b"x" * 10_001)
    assert error(answer, 413, "RequestTooLargeException") == (
        "The request body has 10001 bytes or more; max_request_size allows 10000."
    )


def test_client_side_expiry_is_told(store, server, management, gate):
    """TorchServe never answers."""
    pack(store, "hasty", TELL, config={"clientTimeoutInMills": 200})
    management.post("/models?url=hasty.mar").raise_for_status()
    for path in ("/predictions/hasty", "/explanations/hasty"):
        answer = httpx.post(server.inference + path, content=f"hold {gate}", headers=TEXT)
        message = error(answer, 504, "RequestTimeoutException")
        assert message == "No answer within 0.2 s (clientTimeoutInMills, X-Request-Timeout)."


def test_the_message_of_a_batch_reaches_each_of_its_requests():
    """Here through the call of a handler: a server would have to form the batch."""

    class Context:
        metrics = type("Metrics", (), {"request_ids": None})()

    requests = [Request(b"1-0", "lane", b"", id=name) for name in (b"a", b"b")]
    replies = HandlerCall(lambda data, context: [], Context(), True, 1000).run(requests)
    assert [(reply.id, reply.status) for reply in replies] == [(b"a", 503), (b"b", 503)]
