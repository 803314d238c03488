"""TensorRT-LLM's handler with a stand-in for the engine."""

import asyncio

import pytest

from ts.torch_handler.trt_llm_handler import TRTLLMHandler
from ts.utils.util import PredictionException


@pytest.fixture
def serve(engines, make_context):
    def load(**section):
        handler = TRTLLMHandler()
        handler.initialize(make_context(config={"handler": section}))
        return handler

    return load


@pytest.fixture
def ask(make_context, make_parts):
    def send(handler, path, body, gone_after=None):
        context = make_context(headers={"url_path": path})
        context.cl_socket = parts = make_parts(gone_after)
        return asyncio.run(handler.handle([{"body": body}], context))[0], parts.sent

    return send


def test_a_plain_request_is_answered_with_text(serve, ask):
    body = {"prompt": "one two three", "max_tokens": 2}
    assert ask(serve(engine_dir="org/teller"), "", body) == ("one two", [])


def test_a_plain_request_is_answered_with_parts(serve, ask):
    body = {"prompt": "one two", "max_new_tokens": 9, "streaming": True}
    assert ask(serve(engine_dir="org/teller"), "", body) == ("", ['{"text": "one"}', '{"text": " two"}'])


def test_the_tokenizer_and_the_engine_are_in_the_model_directory(serve, ask, model_dir):
    for name in ("engine", "tokenizer"):
        (model_dir / name).mkdir()
    handler = serve(engine_dir="engine", tokenizer_dir="tokenizer")
    text, _ = ask(handler, "", {"prompt": "engine"})
    assert text.split() == [f"model={model_dir / 'engine'}", f"tokenizer={model_dir / 'tokenizer'}"]


def test_older_configs_name_the_engine_among_its_options(serve, ask):
    handler = serve(trt_llm_engine_config={"engine_dir": "org/teller", "new_option": 7})
    text, _ = ask(handler, "", {"prompt": "engine"})
    assert text == "model=org/teller tokenizer=None new_option=7"


def test_the_cache_is_configured(serve):
    handler = serve(engine_dir="org/teller", kv_cache_config={"free_gpu_memory_fraction": 0.3})
    assert handler.engine.arguments["kv_cache_config"].free_gpu_memory_fraction == 0.3


def test_a_config_without_an_engine_says_what_is_missing(serve):
    with pytest.raises(ValueError, match=r"handler\.engine_dir"):
        serve()


def test_a_conversation_is_answered(serve, ask):
    body = {"messages": [{"role": "user", "content": "good morning"}], "model": "org/teller"}
    answer, _ = ask(serve(engine_dir="org/teller"), "v1/chat/completions", body)
    assert answer["choices"][0]["message"]["content"] == "good morning"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("logprobs", 1, "TensorRT-LLM"),
        ("return_perf_metrics", True, "has no place for it"),
        ("min_p", 0.1, "min_p"),
        ("lora_adapter", "sql", "names no adapters"),
        ("prompt", None, 'no "prompt"'),
    ],
)
def test_a_request_that_cannot_be_met_is_a_400(serve, ask, field, value, reason):
    with pytest.raises(PredictionException, match=reason) as caught:
        ask(serve(engine_dir="org/teller"), "v1/completions", {"prompt": "hello", field: value})
    assert caught.value.error_code == 400


@pytest.mark.parametrize("stream", [True, False])
def test_a_generation_whose_client_is_gone_is_aborted(serve, ask, stream):
    handler = serve(engine_dir="org/teller")
    body = {"prompt": "endless", "max_tokens": 10**9, "streaming": stream}
    with pytest.raises(ConnectionError):
        ask(handler, "", body, gone_after=2)
    assert handler.engine.requests == {"request0": "aborted"}
