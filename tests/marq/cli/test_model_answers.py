"""What the commands for models send, and what they show of the answers."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from marq.cli import model_names

WORKER = {"id": "9000", "status": "READY", "pid": 42, "device": "cpu"}
LOADING = {**WORKER, "id": "9001", "status": "UNLOADING"}
FAILURE = {"failures": 3, "failingSince": "2026-01-02T03:04:05.000Z", "reason": "ValueError: [bold]no"}


def version(**facts):
    known = {
        "modelName": "m",
        "modelVersion": "1.0",
        "modelUrl": "m.mar",
        "minWorkers": 2,
        "batchSize": 8,
        "maxBatchDelay": 50,
        "loadedAtStartup": True,
        "workers": [WORKER, LOADING],
    }
    return known | facts


@pytest.fixture
def management(server, note_server):
    note_server(management_address=server.address)
    return server


def asked(server):
    """The last request: method and path, and its query."""
    method, _, url = server.asked[-1][0].partition(" ")
    parts = urlsplit(url)
    return f"{method} {parts.path}", {name: value for name, (value,) in parse_qs(parts.query).items()}


def test_models_shows_a_line_for_each_version(run, management):
    management.answer("GET /models", {"models": [{"modelName": "m", "modelUrl": "m.mar"}]})
    management.answer("GET /models/m/all", [version(), version(modelVersion="2.0", workers=[])])
    lines = [line.split() for line in run("models").stdout.splitlines()]
    assert ["m", "1.0", "m.mar", "1/2", "8", "50", "ms"] in lines
    assert ["m", "2.0", "m.mar", "0/2", "8", "50", "ms"] in lines
    first, _ = json.loads(run("models", "--json").stdout)
    assert (first["name"], first["replicas_ready"], first["replicas_wanted"]) == ("m", 1, 2)


def test_all_pages_of_models_are_read(run, management):
    pages = {
        "0": {"models": [{"modelName": "a"}], "nextPageToken": "1"},
        "1": {"models": [{"modelName": "b"}]},
    }
    for name in ("a", "b"):
        management.answer(f"GET /models/{name}/all", [version(modelName=name)])

    class Pages(dict):
        def get(self, request, default):
            if request != "GET /models":
                return super().get(request, default)
            return 200, json.dumps(pages[asked(management)[1]["next_page_token"]]).encode()

    management.answers = Pages(management.answers)
    assert [each["name"] for each in json.loads(run("models", "--json").stdout)] == ["a", "b"]


def test_without_models_it_says_so(run, management):
    management.answer("GET /models", {"models": []})
    assert run("models").stdout == "No models are registered.\n"
    assert json.loads(run("models", "--json").stdout) == []


@pytest.mark.parametrize(
    ("command", "known", "hint"),
    [
        (["describe", "digts"], ["cats", "digits"], " Did you mean digits?"),
        (["scale", "digts", "1"], ["digits"], " Did you mean digits?"),
        (["describe", "x"], ["cats", "digits"], " Registered models: cats, digits."),
        (["describe", "x"], [f"m{number}" for number in range(12)], " m9 ..."),
        (["describe", "x"], [], " No models are registered."),
    ],
)
def test_an_unknown_model_names_the_one_that_may_be_meant(run, management, command, known, hint):
    name = command[1]
    error = {"code": 404, "type": "ModelNotFoundException", "message": f"Model not found: {name}"}
    for method in ("GET", "PUT"):
        management.answer(f"{method} /models/{name}", error, 404)
    management.answer("GET /models", {"models": [{"modelName": each} for each in known]})
    result = run(*command)
    assert result.exit_code == 1
    assert f"Model not found: {name}" in result.stderr
    assert hint in " ".join(result.stderr.split())


def test_an_unknown_model_of_a_prediction_is_looked_up_over_the_management_api(
    run, server, note_server, tmp_path
):
    note_server(inference_address=server.address, management_address=server.address)
    error = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: digts"}
    server.answer("POST /predictions/digts", error, 404)
    server.answer("GET /models", {"models": [{"modelName": "digits"}]})
    (tmp_path / "body").touch()
    assert "Model not found: digts. Did you mean digits?" in run("predict", "digts", tmp_path / "body").stderr
    # A server whose management API is not known, or does not answer, has no hint
    server.answer("GET /models", {}, 500)
    assert run("predict", "digts", tmp_path / "body").stderr.endswith("Model not found: digts\n")


def test_an_archive_that_is_not_there_names_those_of_the_model_store(run, server, note_server, tmp_path):
    (tmp_path / "digits.mar").touch()
    note_server(management_address=server.address, settings={"model_store": str(tmp_path)})
    error = {"code": 404, "type": "ModelNotFoundException", "message": "Model not found at: digts.mar"}
    server.answer("POST /models", error, 404)
    told = run("register", "digts.mar")
    assert told.exit_code == 1
    assert told.stderr.endswith("Model not found at: digts.mar. The model store has digits.mar.\n")


def test_describe_shows_settings_replicas_and_why_they_fail(run, management):
    management.answer("GET /models/m", [version(loadFailure=FAILURE, deviceIds=[0, 1])])
    shown = run("describe", "m").stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["deviceIds", "[0,", "1]"] in lines
    assert ["9001", "UNLOADING", "42", "cpu"] in lines
    assert f"have failed to load since {FAILURE['failingSince']}, 3 times:\nValueError: [bold]no" in shown
    assert asked(management) == ("GET /models/m", {"customized": "false"})


def test_a_single_failure_is_once(run, management):
    management.answer("GET /models/m", [version(workers=[], loadFailure={"failures": 1, "reason": "no"})])
    assert "Replicas have failed to load, once:\nno" in run("describe", "m").stdout


def test_describe_takes_a_version_and_asks_the_handler(run, management):
    management.answer("GET /models/m/all", [version(customizedMetadata={"a": 1})])
    described = json.loads(run("describe", "m", "--version", "all", "--customized", "--json").stdout)
    assert described[0]["customizedMetadata"] == {"a": 1}
    assert asked(management) == ("GET /models/m/all", {"customized": "true"})


@pytest.mark.parametrize(
    ("command", "request_line", "query"),
    [
        (
            "register m.mar --name n --workers 2 --batch-size 4 --no-wait",
            "POST /models",
            {
                "url": "m.mar",
                "model_name": "n",
                "initial_workers": "2",
                "batch_size": "4",
                "synchronous": "false",
            },
        ),
        ("register m.mar", "POST /models", {"url": "m.mar", "initial_workers": "1", "synchronous": "true"}),
        ("scale m 3", "PUT /models/m", {"min_worker": "3", "synchronous": "true"}),
        (
            "scale m 3 --max 5 --version 2.0",
            "PUT /models/m/2.0",
            {"min_worker": "3", "max_worker": "5", "synchronous": "true"},
        ),
        ("scale m --max-attempts 4", "PUT /models/m", {"max_attempts": "4", "synchronous": "true"}),
        ("reload m --no-wait", "POST /models/m/reload", {"synchronous": "false"}),
        ("reload m --version 2.0", "POST /models/m/2.0/reload", {"synchronous": "true"}),
        ("set-default m 2.0", "PUT /models/m/2.0/set-default", {}),
        ("unregister m", "DELETE /models/m", {}),
        ("unregister m --version 2.0", "DELETE /models/m/2.0", {}),
    ],
)
def test_a_change_is_one_request_and_its_answer_is_shown(run, management, command, request_line, query):
    management.answer(request_line, {"status": "It is done."})
    assert run(*command.split()).stdout == "It is done.\n"
    assert asked(management) == (request_line, query)
    assert json.loads(run(*command.split(), "--json").stdout) == {"status": "It is done."}


@pytest.mark.parametrize("command", ["scale m", "scale m --max 3", "scale m --max 3 --max-attempts 4"])
def test_a_scaling_needs_a_number_or_attempts_alone(run, management, command):
    result = run(*command.split())
    assert result.exit_code == 2
    assert "The number of replicas is missing." in result.stderr


def test_an_answer_that_is_not_marqs_is_an_error(run, management):
    management.answer("DELETE /models/m", ["another server"])
    result = run("unregister", "m")
    assert result.exit_code == 1
    assert "does not answer as marq does" in result.stderr


def test_names_are_completed_without_an_error(run, management):
    management.answer("GET /models", {"models": [{"modelName": "cat"}, {"modelName": "dog"}]})
    assert model_names.complete("c") == ["cat"]
    management.answer("GET /models", {"code": 503}, 503)
    assert model_names.complete("c") == []


@pytest.mark.parametrize(
    ("command", "request_", "status", "kind", "cure"),
    [
        (["register", "m.mar"], "POST /models", 405, "MethodNotAllowedException", "--enable-model-api"),
        (["unregister", "m"], "DELETE /models/m", 405, "MethodNotAllowedException", "ENABLE_MODEL_API=true"),
        (["unregister", "m"], "DELETE /models/m", 400, "InvalidKeyException", "key_file.json"),
    ],
)
def test_errors_with_torchserves_text_name_their_cure(run, management, command, request_, status, kind, cure):
    management.answer(request_, {"code": status, "type": kind, "message": "No."}, status)
    result = run(*command)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {kind} ({status}): No.")
    assert cure in result.stderr
