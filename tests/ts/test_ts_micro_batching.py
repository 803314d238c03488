import logging
import threading

import pytest

from ts.context import Context, RequestProcessor
from ts.handler_utils.micro_batching import HANDLER_METHODS, MicroBatching
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl


class Handler:
    """Numbers in, one more out; knows what each step saw."""

    def __init__(self):
        self.context = None
        self.sizes = []
        self.threads = set()

    def preprocess(self, data):
        self.sizes.append(len(data))
        self.threads.add(threading.current_thread())
        return data

    def inference(self, data):
        if "bad" in data:
            raise ValueError("bad input")
        return [value + 1 for value in data]

    def postprocess(self, data):
        return [(self.pipeline.get_micro_batch_idx(), value) for value in data]

    def _is_describe(self):
        return self.context.get_request_header(0, "describe") == "True"

    def _is_explain(self):
        return False

    def describe_handle(self):
        return "described"


@pytest.fixture
def pipeline():
    handler = Handler()
    handler.pipeline = MicroBatching(handler, micro_batch_size=2)
    yield handler.pipeline
    handler.pipeline.shutdown()


@pytest.fixture
def context():
    made = Context("m", "/d", None, 8, None, "0.12.0", metrics=MetricsCacheYamlImpl())
    made.request_processor = [RequestProcessor({})]
    return made


def test_a_batch_is_cut_and_the_order_is_kept(pipeline, context):
    assert pipeline([1, 2, 3, 4, 5], context) == [(0, 2), (0, 3), (1, 4), (1, 5), (2, 6)]
    assert pipeline.handler.sizes == [2, 2, 1]
    assert pipeline.handler.context is context


def test_an_empty_batch_is_an_empty_answer(pipeline):
    assert pipeline.handle([]) == []


@pytest.mark.timeout(10)
def test_what_a_step_raises_reaches_the_caller_and_the_next_batch_works(pipeline):
    with pytest.raises(ValueError, match="bad input"):
        pipeline.handle([1, 2, "bad", 3, 5, 6])
    assert [value for _, value in pipeline.handle([1, 2, 3])] == [2, 3, 4]


def test_steps_can_have_several_threads(pipeline):
    pipeline.parallelism = {"inference": 3}
    assert pipeline.parallelism == {"preprocess": 1, "inference": 3, "postprocess": 1}
    pipeline.parallelism = {"inference": 1}
    assert [value for _, value in pipeline.handle(list(range(20)))] == list(range(1, 21))


def test_an_unknown_step_is_refused(pipeline):
    with pytest.raises(AssertionError, match="parallelism is for"):
        pipeline.parallelism = {"thinking": 2}


def test_shutdown_ends_the_threads(pipeline):
    pipeline.handle([1])
    threads = pipeline.handler.threads
    pipeline.shutdown()
    assert not any(thread.is_alive() for thread in threads)


def test_describe_does_not_enter_the_pipeline(pipeline, context):
    context.request_processor = [RequestProcessor({"describe": "True"})]
    assert pipeline([{}], context) == ["described"]
    assert pipeline.handler.sizes == []


def test_the_handler_time_is_emitted(pipeline, context, caplog):
    caplog.set_level(logging.INFO)
    pipeline([1], context)
    assert "[METRICS]HandlerTime.Milliseconds:" in caplog.text


def test_the_steps_are_those_of_a_handler():
    assert HANDLER_METHODS == ["preprocess", "inference", "postprocess"]
