"""OpenAI's Batch API with its own, unmodified client."""

import http.client
import io
import json
import os
import signal
import stat
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from gate import closed
from support import RunningServer, wait_for

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "cancelled", "expired")
HANDLER = """
import json, os, time

class Chat:
    def initialize(self, context):
        self.context = context

    def handle(self, data, context):
        return [self.answer(row, index, context) for index, row in enumerate(data)]

    def answer(self, row, index, context):
        asked = row["body"]
        text = asked["messages"][-1]["content"]
        if text.startswith("hold "):
            while not os.path.exists(text[5:]):
                time.sleep(0.02)
        if text == "refuse":
            context.set_response_status(400, "", index)
            return {"error": {"message": "not this"}}
        message = {"role": "assistant", "content": text.upper()}
        path = context.get_request_header(index, "url_path")
        choices = [{"index": 0, "message": message}]
        return {"id": "x", "object": "chat.completion", "model": path, "choices": choices}
"""


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory) -> RunningServer:
    store: Path = tmp_path_factory.mktemp("store")
    make_archive(store, "chat", HANDLER, {"minWorkers": 1, "maxWorkers": 1, "batchSize": 8})
    running: RunningServer = serve_models(store)
    running.wait_until_ready("chat")
    return running


@pytest.fixture
def client(server: RunningServer) -> openai.OpenAI:
    with openai.OpenAI(base_url=f"{server.inference}/v1", api_key="x", max_retries=0, timeout=60) as client:
        yield client


def line(custom_id: str, text: str, **changes: object) -> bytes:
    body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
    return json.dumps(
        {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body, **changes}
    ).encode()


def upload(client: openai.OpenAI, *lines: bytes) -> str:
    return client.files.create(file=("in.jsonl", io.BytesIO(b"\n".join(lines))), purpose="batch").id


def create(client: openai.OpenAI, *lines: bytes) -> str:
    file_id = upload(client, *lines)
    return client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h").id


def end_of(client: openai.OpenAI, batch_id: str) -> "openai.types.Batch":
    return wait_for(lambda: (batch := client.batches.retrieve(batch_id)).status in ENDED and batch)


def lines_of(client: openai.OpenAI, file_id: str | None) -> dict[str, dict]:
    """The lines of a file by their custom ids; each is there once."""
    if file_id is None:
        return {}
    lines = [json.loads(each) for each in client.files.content(file_id).text.splitlines()]
    found = {each["custom_id"]: each for each in lines}
    assert len(found) == len(lines)
    return found


def test_a_file_becomes_jobs_and_their_answers_become_files(client, server: RunningServer) -> None:
    file_id = upload(client, *(line(f"n{n}", f"text {n}") for n in range(150)), line("bad", "refuse"))
    batch = client.batches.create(
        input_file_id=file_id, endpoint=CHAT, completion_window="24h", metadata={"night": "7"}
    )
    batch = end_of(client, batch.id)
    # Then it has ended, with one line for each request in one of the files
    assert (batch.status, batch.metadata) == ("completed", {"night": "7"})
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (151, 150, 1)
    output, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert set(output) == {f"n{n}" for n in range(150)}
    response = output["n7"]["response"]
    assert response["status_code"] == 200
    assert response["body"]["choices"][0]["message"]["content"] == "TEXT 7"
    assert response["body"]["model"] == CHAT.lstrip("/")
    assert errors["bad"]["response"]["status_code"] == 400
    # And the batch and the files are listed
    assert batch.id in [each.id for each in client.batches.list(limit=1)]
    listed = {each.id: each for each in client.files.list()}
    assert {file_id, batch.output_file_id, batch.error_file_id} <= set(listed)
    assert listed[file_id].filename == "in.jsonl"
    # And only marq's user can read them
    folder = server.state_dir / "batch-files"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / file_id)] == [0o700, 0o600]
    # And they can be removed
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file_id)


def test_a_file_with_a_bad_line_runs_nothing(client) -> None:
    bad = [
        b"no json", line("a", "x"), line("a", "x"),
        line("b", "x", url="/v1/completions"), line("c", "x", method="GET"),
        line("d", "x", body={"model": "other"}), line("e", "x", body={"model": "chat", "stream": True}),
    ]  # fmt: skip
    batch = end_of(client, create(client, *bad))
    assert (batch.status, batch.output_file_id, batch.request_counts.total) == ("failed", None, 0)
    assert [(error.line, error.code) for error in batch.errors.data] == [
        (1, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "mismatched_endpoint"),
        (5, "invalid_method"),
        (6, "mismatched_model"),
        (7, "invalid_request"),
    ]


def test_a_cancelled_batch_keeps_the_answers_so_far(client, tmp_path) -> None:
    with closed(tmp_path / "gate") as gate:
        first = create(client, line("first", "x"))
        assert end_of(client, first).status == "completed"
        batch_id = create(client, line("held", f"hold {gate}"), *(line(f"n{n}", "x") for n in range(20)))
        wait_for(lambda: client.batches.retrieve(batch_id).status == "in_progress")
        # A file that a batch reads stays
        with pytest.raises(openai.ConflictError):
            client.files.delete(client.batches.retrieve(batch_id).input_file_id)
        client.batches.cancel(batch_id)
        batch = end_of(client, batch_id)
    assert batch.status == "cancelled"
    output, errors = lines_of(client, batch.output_file_id), lines_of(client, batch.error_file_id)
    assert set(output) | set(errors) == {"held", *(f"n{n}" for n in range(20))}
    assert not set(output) & set(errors)
    assert errors["n19"]["error"]["code"] == "batch_cancelled"


def test_bad_input_is_refused_with_what_would_be_right(client, server: RunningServer) -> None:
    with pytest.raises(openai.BadRequestError, match="purpose must be 'batch'"):
        client.files.create(file=("a", b"x"), purpose="assistants")
    with pytest.raises(openai.NotFoundError, match="no file file-none"):
        client.batches.create(input_file_id="file-none", endpoint=CHAT, completion_window="24h")
    file_id = upload(client, line("a", "x", body={"model": "missing"}))
    with pytest.raises(openai.NotFoundError, match="Model not found: missing"):
        client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    with pytest.raises(openai.UnprocessableEntityError, match="completion_window"):
        client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="1h")  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        client.batches.cancel("batch_none")
    connection = http.client.HTTPConnection(*server.inference.removeprefix("http://").split(":"), timeout=60)
    connection.putrequest("POST", "/v1/files")
    connection.putheader("content-length", str(10**9))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


@pytest.mark.slow
def test_no_line_is_lost_or_doubled_when_gateways_are_killed(start_server, make_archive, tmp_path) -> None:
    store = tmp_path / "store"
    make_archive(store, "chat", HANDLER, {"minWorkers": 1, "maxWorkers": 1, "batchSize": 8})
    server = start_server(store, gateway_workers=2)
    server.wait_until_ready("chat")
    names = {f"n{n}" for n in range(3000)}
    with openai.OpenAI(base_url=f"{server.inference}/v1", api_key="x", max_retries=20) as client:
        batch_id = create(client, *(line(name, name) for name in sorted(names)))
        for _ in range(6):  # whatever it does just then
            for child in psutil.Process(server.process.pid).children(recursive=True):
                if "gateway" in child.cmdline():
                    os.kill(child.pid, signal.SIGKILL)
            wait_for(lambda: httpx.get(f"{server.inference}/ping").status_code == 200)
        batch = end_of(client, batch_id)
        output = lines_of(client, batch.output_file_id)
        assert (batch.status, batch.error_file_id, set(output)) == ("completed", None, names)
        for name, each in output.items():
            assert each["response"]["body"]["choices"][0]["message"]["content"] == name.upper()
