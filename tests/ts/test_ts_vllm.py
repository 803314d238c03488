"""vLLM's handler with a stand-in for the engine."""

import asyncio
import importlib
import sys

import pytest

from ts.torch_handler.vllm_handler import VLLMHandler
from ts.utils.util import PredictionException


@pytest.fixture
def serve(engines, make_context):
    """Loads a model of this `handler` section; returns the handler."""

    def load(**section):
        handler = VLLMHandler()
        handler.initialize(make_context(config={"handler": {"model_path": "org/teller", **section}}))
        return handler

    return load


@pytest.fixture
def ask(make_context, make_parts):
    """Sends a request; returns the answer and the parts that were sent before it."""

    def send(handler, path, body, gone_after=None):
        context = make_context(headers={"url_path": path})
        context.cl_socket = parts = make_parts(gone_after)
        return asyncio.run(handler.handle([{"body": body}], context))[0], parts.sent

    return send


def facts(ask, handler, prompt, **request):
    """What the engine says about itself."""
    text, _ = ask(handler, "", {"prompt": prompt, **request})
    return dict(fact.split("=", 1) for fact in text.split())


def test_paths_in_the_model_directory_are_whole_paths_for_the_engine(serve, ask, model_dir):
    for name in ("model", "tokenizer"):
        (model_dir / name).mkdir()
    config = {"tokenizer": "tokenizer", "download_dir": "weights"}
    found = facts(ask, serve(model_path="model", vllm_engine_config=config), "engine")
    assert found == {name: str(model_dir / path) for name, path in {"model": "model", **config}.items()}


def test_other_paths_and_names_stay_as_they_are(serve, ask):
    config = {"tokenizer": "org/tokenizer", "download_dir": "/data"}
    found = facts(ask, serve(vllm_engine_config=config), "engine")
    assert found == {"model": "org/teller", **config}


def test_options_that_the_handler_does_not_know_reach_the_engine(serve, ask):
    assert facts(ask, serve(vllm_engine_config={"new_option": 7}), "engine")["new_option"] == "7"


def test_a_config_without_a_model_says_what_is_missing(engines, make_context):
    with pytest.raises(ValueError, match=r"handler\.model_path"):
        VLLMHandler().initialize(make_context(config={"handler": {}}))


def test_an_adapter_in_the_model_directory_answers(serve, ask, model_dir):
    (model_dir / "adapters/sql").mkdir(parents=True)
    handler = serve(adapters={"verse": "org/verse", "sql": "adapters/sql"})
    assert facts(ask, handler, "engine")["enable_lora"] == "True"
    assert handler.model_names() == ["org/teller", "mnist", "verse", "sql"]
    sql = {"lora_name": "sql", "lora_int_id": "2", "lora_path": str(model_dir / "adapters/sql")}
    assert facts(ask, handler, "adapter", lora_adapter="sql") == sql
    assert facts(ask, handler, "adapter", model="sql") == sql
    assert facts(ask, handler, "adapter", model="verse")["lora_path"] == "org/verse"
    assert facts(ask, handler, "adapter") == {"no": "adapter"}


def test_an_engine_without_adapters_is_not_prepared_for_them(serve, ask):
    assert "enable_lora" not in facts(ask, serve(), "engine")


def test_sampling_options_reach_the_engine(serve, ask):
    given = {"temperature": 0.5, "top_k": 3, "seed": 7, "min_p": 0.1}
    found = facts(ask, serve(), "options", **given)
    assert {name: found[name] for name in given} == {name: str(value) for name, value in given.items()}


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"unknown_option": 1}])
def test_sampling_options_that_the_engine_refuses_are_a_400(serve, ask, wrong):
    with pytest.raises(PredictionException, match=r"temperature must be|unknown_option") as caught:
        ask(serve(), "v1/completions", {"prompt": "hello", **wrong})
    assert caught.value.error_code == 400


def test_a_prompt_that_is_too_long_is_a_400(serve, ask):
    with pytest.raises(PredictionException, match="the model takes 50") as caught:
        ask(serve(), "v1/completions", {"prompt": "word " * 60})
    assert caught.value.error_code == 400


def test_a_prompt_may_be_token_ids(serve, ask):
    handler = serve()
    ids = handler.engine.tokenizer.encode("one two", add_special_tokens=False)
    answer, _ = ask(handler, "v1/completions", {"prompt": ids})
    assert answer["choices"][0]["text"] == "one two"
    assert answer["usage"]["prompt_tokens"] == 2


def test_a_conversation_begins_once_and_is_as_long_as_the_model_allows(serve, ask):
    messages = [{"role": "user", "content": "word " * 30}]
    answer, _ = ask(serve(), "v1/chat/completions", {"messages": messages})
    [choice] = answer["choices"]
    assert choice["message"]["content"].split() == ["word"] * 30
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 31


def test_older_engines_give_their_tokenizer_to_those_who_wait(serve, ask, monkeypatch):
    handler = serve()

    async def get_tokenizer():
        return handler.engine.tokenizer

    monkeypatch.setattr(handler.engine, "get_tokenizer", get_tokenizer)
    answer, _ = ask(handler, "v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]})
    assert answer["choices"][0]["message"]["content"] == "hello"


def test_older_engines_refuse_requests_with_a_value_error(engines, serve, ask, monkeypatch):
    importlib.import_module("vllm.exceptions")
    monkeypatch.setitem(sys.modules, "vllm.exceptions", None)
    handler = serve()

    async def generate(*_arguments, **_options):
        raise ValueError("the prompt is too long")
        yield

    monkeypatch.setattr(handler.engine, "generate", generate)
    with pytest.raises(PredictionException, match="the prompt is too long") as caught:
        ask(handler, "v1/completions", {"prompt": "hello"})
    assert caught.value.error_code == 400


def test_the_chat_template_is_a_file_of_the_model_or_a_text(serve, ask, model_dir):
    (model_dir / "chat.jinja").write_text("from-the-file")
    for given, used in {"chat.jinja": "from-the-file", "from-the-config": "from-the-config"}.items():
        body = {"messages": [{"role": "user", "content": "hello"}]}
        answer, _ = ask(serve(chat_template=given), "v1/chat/completions", body)
        assert answer["choices"][0]["message"]["content"] == f"{used} hello"


def test_log_probabilities_are_those_of_the_tokens(serve, ask):
    body = {"prompt": "one two", "logprobs": 1}
    answer, _ = ask(serve(), "v1/completions", body)
    assert answer["choices"][0]["logprobs"]["tokens"] == ["one", "two"]
    _, parts = ask(serve(), "v1/completions", {**body, "stream": True})
    assert ['"tokens": ["one"]' in parts[0], '"tokens": ["two"]' in parts[1]] == [True, True]


@pytest.mark.parametrize("stream", [True, False])
def test_a_generation_whose_client_is_gone_is_aborted(serve, ask, stream):
    handler = serve()
    body = {"prompt": "endless", "max_tokens": 10**9, "stream": stream}
    with pytest.raises(ConnectionError):
        ask(handler, "v1/completions", body, gone_after=2)
    assert handler.engine.requests == {"id-0": "aborted"}


def test_a_generation_that_is_cancelled_is_aborted(serve, make_context, make_parts):
    handler, context = serve(), make_context()
    context.cl_socket = parts = make_parts()

    async def cancel():
        body = {"prompt": "endless", "max_tokens": 10**9, "streaming": True}
        running = asyncio.ensure_future(handler.handle([{"body": body}], context))
        while not parts.sent:
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()

    asyncio.run(cancel())
    assert handler.engine.requests == {"id-0": "aborted"}


def test_a_generation_that_has_ended_is_not_aborted(serve, ask):
    handler = serve()
    ask(handler, "v1/completions", {"prompt": "one two"})
    assert handler.engine.requests == {"id-0": "ended"}
