import logging

import pytest

from ts.context import Context, RequestProcessor
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl

TEXT = "three short words"


@pytest.fixture(scope="module")
def example(load_example):
    return load_example("custom_metrics", "handler", "pack")


@pytest.fixture(scope="module")
def model(example, host):
    return host.register(example.pack.pack(host.store))


@pytest.fixture
def handler(example):
    """The handler in this process, and a batch's context."""
    context = Context("words", "", None, 1, None, "0.12.0", metrics=MetricsCacheYamlImpl())
    context.metrics.model_name = "words"
    context.metrics.request_ids = "loading"
    handler = example.handler.CountingHandler()
    handler.initialize(context)
    context.request_ids = context.metrics.request_ids = {0: "id-0"}
    context.request_processor = [RequestProcessor({"Content-Language": "en"})]
    return lambda body: handler.handle([{"body": body}], context)


def test_words_are_counted(host, model):
    for _ in range(3):  # metrics that are updated twice must not be made twice
        answer = host.predict(model, TEXT.encode(), "text/plain", headers={"Content-Language": "en"})
        assert (answer.status_code, answer.json()) == (200, {"words": 3})


def test_what_is_no_text_is_a_bad_request(host, model):
    assert host.predict(model, b"\x00", "application/octet-stream").status_code == 400


@pytest.mark.parametrize(
    "line",
    [
        "TextsTotal.Count:1|#ModelName:words,Language:en|#type:COUNTER",
        "TextLength.Count:17|#ModelName:words|#type:HISTOGRAM",
        "TextSize.Bytes:17|#Language:en,ModelName:words,Level:Model|#type:GAUGE",
        "CountTime.Milliseconds:",
    ],
)
def test_each_metric_is_one_line(handler, caplog, line):
    caplog.set_level(logging.INFO)
    assert handler(TEXT) == [{"words": 3}]
    found = [text for text in caplog.messages if text.startswith(f"[METRICS]{line}")]
    assert len(found) == 1
    assert found[0].endswith(",id-0")


def test_a_refused_request_is_counted(handler, caplog):
    caplog.set_level(logging.INFO)
    with pytest.raises(Exception, match="Send a text"):
        handler(b"bytes")
    assert any(text.startswith("[METRICS]NotText.Count:1|") for text in caplog.messages)
