"""Language models by the quick start: the launcher, OpenAI's routes, and the plain route of TensorRT-LLM.

The engines are stand-ins with the interfaces of vLLM and TensorRT-LLM: they say the prompt's words one by
one. Launcher, server, replica and HTTP are real.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from ports import free_port
from support import RunningServer, wait_for

ENGINES = Path(__file__).parents[1] / "shared/llm_engines"


@dataclass(frozen=True)
class Launcher:
    """`python -m ts.llm_launcher` in a folder, and the address of its server."""

    process: subprocess.Popen[bytes]
    address: str
    log: Path
    environment: dict[str, str]

    def wait_until_ready(self) -> None:
        wait_for(self._is_ready, 150, "the model", self.log)

    def wait_until_started(self) -> None:
        """The server is up; its model may still be loading."""
        wait_for(lambda: "Model server started" in self.log.read_text(), 100, "the server", self.log)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.address}/models/model").json()[0]["workers"][0]["status"] == "READY"
        except (httpx.TransportError, KeyError, IndexError):
            return False


@contextmanager
def launched(folder: Path, *options: str) -> Iterator[Launcher]:
    address = f"http://127.0.0.1:{free_port()}"
    planes = "\n".join(f"{plane}_address={address}" for plane in ("inference", "management", "metrics"))
    ports = "\n".join(f"grpc_{plane}_port={free_port()}" for plane in ("inference", "management"))
    (folder / "config.properties").write_text(f"{planes}\n{ports}\n")
    command = [sys.executable, "-m", "ts.llm_launcher", "--model_id", "org/teller", "--disable_token_auth"]
    environment = {
        **os.environ, "PYTHONPATH": str(ENGINES), "TMPDIR": str(folder), "MARQ_STATE_DIR": f"{folder}/state",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    log = folder / "out"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--model_store", "store", *options],
            cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield Launcher(process, address, log, environment)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(100)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`python -m ts.llm_launcher --model_id org/teller` with an option that only the engine knows."""
    folder = tmp_path_factory.mktemp("llm")
    (folder / "store").mkdir()
    with launched(folder, "--vllm_engine.quantization=awq") as launcher:
        launcher.wait_until_ready()
        yield f"{launcher.address}/predictions/model"


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


def test_a_streamed_chat_is_server_sent_events_that_end_with_done(address: str) -> None:
    body = {"messages": [{"role": "user", "content": "good morning"}], "stream": True}
    answer = post(f"{address}/1.0/v1/chat/completions", body)
    assert answer.headers["content-type"] == "text/event-stream"
    assert answer.text.endswith("\n\ndata: [DONE]\n\n")
    events = [json.loads(event.removeprefix("data: ")) for event in answer.text.split("\n\n")[:-2]]
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas == [{"role": "assistant", "content": "good"}, {"content": " morning"}]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, "stop"]
    assert {event["object"] for event in events} == {"chat.completion.chunk"}


@pytest.mark.parametrize(
    ("path", "body", "fault"),
    [
        ("", b"", "the request has no JSON body"),
        ("", b'{"prompt": ', "the body is not JSON"),
        ("", b'["prompt"]', "the body is a list, not a JSON object"),
        ("", b'{"text": "x"}', 'the request has no "prompt"'),
        ("/1.0/v1/completions", b'{"messages": []}', '"messages" belongs to v1/chat/completions'),
        ("/1.0/v1/chat/completions", b'{"prompt": "x"}', '"prompt" belongs to v1/completions'),
        ("/1.0/v1/completions", b'{"prompt": "x", "n": 3}', '"n" cannot be 3: a request has one answer'),
        ("/1.0/v1/completions", b'{"prompt": "x", "top_q": 1}', "top_q"),
        ("/1.0/v1/completions", b'{"prompt": "x", "temperature": -1}', "must be non-negative"),
    ],
)
def test_a_wrong_request_is_a_400_that_says_why(address: str, path: str, body: bytes, fault: str) -> None:
    headers = {"Content-Type": "application/json"}
    answer = httpx.post(f"{address}{path}", content=body, headers=headers, timeout=60)
    assert answer.status_code == 400, answer.text
    assert fault in answer.json()["message"]


def test_a_body_that_is_sent_as_a_form_is_a_400_that_names_the_content_type(address: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}  # of `curl -d`
    answer = httpx.post(address, content=b'{"prompt": "x"}', headers=headers, timeout=60)
    assert answer.status_code == 400
    assert "Content-Type: application/json" in answer.json()["message"]


def test_sampling_options_reach_the_engine(address: str) -> None:
    body = {"prompt": "options", "temperature": 0.5, "top_k": 3, "seed": 7, "logit_bias": {"5": -1}}
    found = post(f"{address}/1.0/v1/completions", body).json()["choices"][0]["text"].split("=")
    assert {"0.5", "3", "7", "{5:"} <= {word.split()[0] for word in found}


def requests_of(address: str) -> dict[str, str]:
    """The engine's requests, running, ended or aborted."""
    text = post(address, {"prompt": "requests", "max_tokens": 100_000}).text
    return dict(each.split("=") for each in text.split())


@pytest.mark.parametrize("path", ["/1.0/v1/completions", "/1.0/v1/chat/completions", ""])
def test_a_client_that_disconnects_from_a_stream_ends_the_generation(address: str, path: str) -> None:
    asked = (
        {"messages": [{"role": "user", "content": "endless"}]} if "chat" in path else {"prompt": "endless"}
    )
    body = {**asked, "max_tokens": 10**9, "stream" if path else "streaming": True}
    with httpx.stream("POST", f"{address}{path}", json=body, timeout=60) as response:
        parts = response.iter_text()  # httpx disconnects when it is garbage
        next(parts)
        assert requests_of(address)[response.headers["x-request-id"]] == "running"
    wait_for(lambda: requests_of(address)[response.headers["x-request-id"]] == "aborted")


def test_a_client_that_disconnects_before_its_whole_answer_ends_the_generation(address: str) -> None:
    before = requests_of(address)
    host, port = httpx.URL(address).host, httpx.URL(address).port
    body = b'{"prompt": "endless", "max_tokens": 1000000000}'
    with socket.create_connection((host, port)) as connection:
        head = "POST /predictions/model HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

        def started() -> str | None:
            new = [name for name, state in requests_of(address).items() if state == "running"]
            return next((name for name in new[:-1] if name not in before), None)

        request = wait_for(started)
    wait_for(lambda: requests_of(address)[request] == "aborted")


@pytest.mark.parametrize("moment", [pytest.param("starting", marks=pytest.mark.slow), "started"])
def test_a_launcher_that_is_terminated_deletes_what_it_has_made(tmp_path: Path, moment: str) -> None:
    with launched(tmp_path) as launcher:
        if moment == "started":
            launcher.wait_until_started()
        else:
            config = tmp_path / "store/model/model-config.yaml"
            wait_for(config.exists, 60, "the model", launcher.log)
        launcher.process.terminate()
        assert launcher.process.wait(100) == 0
    assert not (tmp_path / "store").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{launcher.address}/ping")


@pytest.mark.slow
def test_a_launcher_shows_the_output_of_its_server_and_ends_with_it(tmp_path: Path) -> None:
    with launched(tmp_path) as launcher:
        launcher.wait_until_started()
        stop = [Path(sys.executable).with_name("torchserve"), "--stop"]
        subprocess.run(stop, env=launcher.environment, check=True)
        assert launcher.process.wait(100) == 1
    shown = launcher.log.read_text()
    assert shown.endswith("ts.llm_launcher: the server has ended\n")
    assert not (tmp_path / "store").exists()


def make_model(store: Path, name: str, handler: str, section: dict[str, object], *folders: str) -> None:
    """An archive of a language model with its engine, and with folders that the section names."""
    sources = store.parent / name
    shutil.copytree(ENGINES, sources)
    for folder in folders:
        (sources / folder).mkdir(parents=True)
        (sources / folder / "weights").write_text("")
    (sources / "MAR-INF").mkdir()
    model = {"modelName": name, "modelVersion": "1.0", "handler": handler, "configFile": "model-config.yaml"}
    (sources / "MAR-INF/MANIFEST.json").write_text(json.dumps({"runtime": "python", "model": model}))
    config = {"minWorkers": 1, "maxWorkers": 1, "asyncCommunication": True, "handler": section}
    (sources / "model-config.yaml").write_text(json.dumps(config))  # JSON is YAML
    store.mkdir(exist_ok=True)
    shutil.move(shutil.make_archive(str(sources), "zip", sources), store / f"{name}.mar")


@pytest.fixture(scope="module")
def server(serve_models, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    store = tmp_path_factory.mktemp("llm") / "store"
    adapters = {"sql": "adapters/sql", "verse": "org/verse"}
    make_model(
        store, "adapted", "vllm_handler", {"model_path": "org/teller", "adapters": adapters}, "adapters/sql"
    )
    tensor = {"engine_dir": "engine", "tokenizer_dir": "tokenizer"}
    make_model(store, "tensor", "trt_llm_handler", tensor, "engine", "tokenizer")
    running: RunningServer = serve_models(store)
    for model in ("adapted", "tensor"):
        running.wait_until_ready(model)
    return running


def predict(server: RunningServer, path: str, body: dict[str, object]) -> httpx.Response:
    return post(f"{server.inference}/predictions/{path}", body)


@pytest.mark.parametrize("field", ["model", "lora_adapter"])
def test_a_request_names_its_adapter(server: RunningServer, field: str) -> None:
    body = {"prompt": "adapter", field: "sql"}
    answer = predict(server, "adapted/1.0/v1/completions", body).json()
    assert answer["model"] == "sql"
    name, number, path = answer["choices"][0]["text"].split()
    assert (name, number) == ("lora_name=sql", "lora_int_id=1")
    assert path.startswith("lora_path=/") and path.endswith("/adapters/sql")
    assert predict(server, "adapted", {**body, "max_tokens": 1}).text == name
    assert predict(server, "adapted", {"prompt": "adapter"}).text == "no=adapter"


def test_an_unknown_adapter_is_a_400_that_names_those_there_are(server: RunningServer) -> None:
    answer = predict(server, "adapted", {"prompt": "hello", "lora_adapter": "prose"})
    assert answer.status_code == 400
    assert answer.json()["message"] == "there is no LoRA adapter prose; there are: sql, verse"


def test_adapters_are_listed_as_models(server: RunningServer) -> None:
    listed = httpx.get(f"{server.inference}/predictions/adapted/1.0/v1/models", timeout=30).json()["data"]
    assert [each["id"] for each in listed] == ["org/teller", "adapted", "sql", "verse"]


def test_tensorrt_answers_plain_requests(server: RunningServer) -> None:
    assert predict(server, "tensor", {"prompt": "one two three", "max_tokens": 2}).text == "one two"
    answer = predict(server, "tensor", {"prompt": "one two", "max_tokens": 5, "streaming": True})
    assert answer.text == '{"text": "one"}{"text": " two"}'


def test_tensorrt_finds_its_tokenizer_in_the_archive(server: RunningServer) -> None:
    model, tokenizer = predict(server, "tensor", {"prompt": "engine"}).text.split()
    assert model.startswith("model=/") and model.endswith("/engine")
    assert tokenizer.startswith("tokenizer=/") and tokenizer.endswith("/tokenizer")


def test_a_client_that_disconnects_ends_the_generation_of_tensorrt(server: RunningServer) -> None:
    url = f"{server.inference}/predictions/tensor"
    body = {"prompt": "endless", "max_tokens": 10**9, "streaming": True}
    with httpx.stream("POST", url, json=body, timeout=60) as response:
        next(response.iter_text())
    wait_for(lambda: "aborted" in requests_of(url).values())
