"""Language models by the quick start: the launcher, OpenAI's routes, and the plain route of TensorRT-LLM.

The engine is a stand-in with vLLM's interface: it tells the prompt's words one by one. Launcher, server,
replica and HTTP are real.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ports import free_port
from support import wait_for

ENGINE = """
import asyncio
from types import SimpleNamespace


class SamplingParams(SimpleNamespace):
    pass


class AsyncEngineArgs(SimpleNamespace):
    pass


class AsyncLLMEngine:
    def __init__(self, args):
        self.args = args

    @classmethod
    def from_engine_args(cls, args):
        return cls(args)

    async def get_tokenizer(self):
        join = lambda messages, **_: " ".join(message["content"] for message in messages)
        return SimpleNamespace(apply_chat_template=join)

    async def generate(self, prompt, sampling, request_id, lora_request=None):
        words = prompt.split()[: getattr(sampling, "max_tokens", 100)]
        if prompt == "engine":
            words = [f"{name}={value}" for name, value in sorted(vars(self.args).items())]
        for count in range(1, len(words) + 1):
            await asyncio.sleep(0)
            best = SimpleNamespace(
                text=" ".join(words[:count]), finish_reason="stop" if count == len(words) else None,
                token_ids=list(range(count)),
            )
            yield SimpleNamespace(outputs=[best], prompt_token_ids=[1, 2])
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python -m ts.llm_launcher --model_id org/teller` with an option that only the engine knows."""
    folder = tmp_path_factory.mktemp("llm")
    (folder / "vllm.py").write_text(ENGINE)
    (folder / "store").mkdir()
    address = f"http://127.0.0.1:{free_port()}"
    planes = "\n".join(f"{plane}_address={address}" for plane in ("inference", "management", "metrics"))
    (folder / "config.properties").write_text(planes + "\n")
    launcher = [sys.executable, "-m", "ts.llm_launcher", "--model_id", "org/teller", "--disable_token_auth"]
    environment = {
        **os.environ, "PYTHONPATH": str(folder), "TMPDIR": str(folder), "MARQ_STATE_DIR": f"{folder}/state",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    log = folder / "out"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*launcher, "--model_store", "store", "--vllm_engine.quantization=awq"],
            cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return httpx.get(f"{address}/models/model").json()[0]["workers"][0]["status"] == "READY"
        except (httpx.TransportError, KeyError, IndexError):
            return False

    try:
        wait_for(answers, 90, "the model", log)
        yield f"{address}/predictions/model"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def post(url: str, body: dict[str, object]) -> httpx.Response:
    return httpx.post(url, json=body, timeout=60)


@pytest.mark.parametrize("model", ["org/teller", "model", None])
def test_a_completion_is_answered_under_the_models_id(address: str, model: str | None) -> None:
    named = {} if model is None else {"model": model}
    answer = post(f"{address}/1.0/v1/completions", {**named, "prompt": "once upon a time", "max_tokens": 2})
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["text"] == "once upon"
    assert answer.json()["model"] == (model or "org/teller")


def test_another_model_is_not_found(address: str) -> None:
    assert post(f"{address}/1.0/v1/completions", {"model": "other", "prompt": "x"}).status_code == 404


def test_models_are_listed_and_a_chat_is_answered(address: str) -> None:
    listed = httpx.get(f"{address}/1.0/v1/models", timeout=30).json()["data"]
    assert [each["id"] for each in listed] == ["org/teller", "model"]
    messages = [{"role": "user", "content": "good morning"}]
    answer = post(f"{address}/1.0/v1/chat/completions", {"model": "org/teller", "messages": messages})
    assert answer.json()["choices"][0]["message"]["content"] == "good morning"


def test_a_stream_is_server_sent_events(address: str) -> None:
    body = {"model": "org/teller", "prompt": "one two three", "stream": True}
    answer = post(f"{address}/1.0/v1/completions", body)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert events[-1] == "[DONE]"
    assert "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1]) == "one two three"


def test_options_that_only_the_engine_knows_reach_it(address: str) -> None:
    assert "quantization=awq" in post(address, {"prompt": "engine"}).text.split()


def test_a_plain_request_is_answered_with_text_or_with_parts(address: str) -> None:
    assert post(address, {"prompt": "one two three", "max_tokens": 2}).text == "one two"
    answer = post(address, {"prompt": "one two", "max_new_tokens": 5, "streaming": True})
    assert answer.text == '{"text": "one"}{"text": " two"}'
