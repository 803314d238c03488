"""The commands for models, against a real server with tokens."""

import json
import os
import subprocess

import pytest
from support import MARQ, wait_for

ECHO = """
def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    return None if data is None else [bytes(row["body"]) for row in data]
"""


@pytest.fixture(scope="module")
def server(start_server, make_archive, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "broken", "raise RuntimeError('[this] cannot be imported')")
    for name, version in (("echo", "1.0"), ("echo", "2.0"), ("other", "1.0")):
        path = make_archive(store, name, ECHO, {"minWorkers": 1, "maxWorkers": 1}, version)
        path.rename(store / f"{name}-{version}.mar")
    server = start_server(store, ["echo-1.0.mar"], ["--enable-model-api"])
    assert server.marq("scale", "echo", "1").returncode == 0
    return server


@pytest.fixture
def told(server):
    """Runs a command that succeeds; what it prints, parsed if it is JSON."""

    def run(*arguments: str):
        done = server.command(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if "--json" in arguments else done.stdout

    return run


def test_the_life_of_a_version_needs_no_curl(told):
    assert told("register", "other-1.0.mar", "--batch-size", "8", "--max-batch-delay", "50") == (
        'Model "other" Version: 1.0 registered with 1 initial workers\n'
    )
    listed = told("models", "--json")
    assert [model["name"] for model in listed] == ["echo", "other"]
    assert (listed[1]["replicas_ready"], listed[1]["batch_size"]) == (1, 8)
    assert told("scale", "other", "2", "--json") == {"status": "Workers scaled to 2 for model: other"}
    (described,) = told("describe", "other", "--json")
    assert (described["minWorkers"], described["maxBatchDelay"], len(described["workers"])) == (2, 50, 2)
    assert told("unregister", "other") == 'Model "other" unregistered\n'
    assert [model["name"] for model in told("models", "--json")] == ["echo"]


def test_a_number_of_replicas_that_is_hardly_meant_needs_force(told, server):
    told("register", "other-1.0.mar", "--workers", "0", "--force")
    refused = server.marq("scale", "other", "10000", "--no-wait")
    assert refused.returncode == 1
    assert "Add force=true if you mean it." in " ".join(refused.stderr.split())
    assert told("describe", "other", "--json")[0]["minWorkers"] == 0
    assert told("scale", "other", "0", "--force") == "Workers scaled to 0 for model: other\n"
    told("unregister", "other")


def test_attempts_are_set_with_the_model_or_later(told, server):
    told("register", "other-1.0.mar", "--workers", "0", "--max-attempts", "1")
    assert told("describe", "other", "--json")[0]["maxAttempts"] == 1
    assert told("scale", "other", "--max-attempts", "5") == "maxAttempts set to 5 for model: other\n"
    assert told("scale", "other", "0", "--max-attempts", "2") == "Workers scaled to 0 for model: other\n"
    assert told("describe", "other", "--json")[0]["maxAttempts"] == 2
    told("unregister", "other")
    for arguments in ((), ("--max", "2"), ("--max", "2", "--max-attempts", "2")):
        refused = server.command("scale", "echo", *arguments)
        assert refused.returncode == 2
        assert "The number of replicas is missing." in refused.stderr


def test_describe_shows_why_replicas_cannot_be_loaded(told):
    told("register", "broken.mar", "--no-wait")

    def shown():
        text = told("describe", "broken")
        return text if "failed to load" in text else None

    text = wait_for(shown)
    assert "\nReplicas have failed to load since 20" in text
    assert "RuntimeError: [this] cannot be imported\n" in text
    told("unregister", "broken")


def test_versions_are_told_apart(told):
    told("register", "echo-2.0.mar", "--workers", "0")
    assert told("set-default", "echo", "2.0") == (
        'Default version successfully updated for model "echo" to "2.0"\n'
    )
    assert [model["modelVersion"] for model in told("describe", "echo", "--version", "all", "--json")] == [
        "1.0",
        "2.0",
    ]
    assert told("describe", "echo", "--json")[0]["modelVersion"] == "2.0"
    told("set-default", "echo", "1.0")
    told("unregister", "echo", "--version", "2.0")
    assert len(told("models", "--json")) == 1


def test_tables_are_for_people(told):
    table = told("models")
    assert table.split()[:6] == ["Model", "Version", "Archive", "Replicas", "Batch", "Delay"]
    assert "echo-1.0.mar" in table
    described = told("describe", "echo")
    assert "maxBatchDelay" in described
    assert "READY" in described


def test_a_model_that_there_is_not_is_told_in_the_servers_words(server):
    for arguments in (("describe", "none"), ("scale", "none", "1"), ("set-default", "none", "1.0")):
        done = server.marq(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: ModelNotFoundException (404): Model not found: none. ")
        assert done.stderr.endswith("Registered models: echo.\n")


def test_a_token_can_be_given_and_a_wrong_one_is_refused(server):
    given = [MARQ, "models", "--json", "--url", server.management]
    elsewhere = {**os.environ, "MARQ_STATE_DIR": "/nowhere"}
    key = json.loads((server.log.parent / "key_file.json").read_text())["management"]["key"]
    right = subprocess.run([*given, "--token", key], capture_output=True, text=True, env=elsewhere)
    assert json.loads(right.stdout)[0]["name"] == "echo"
    right = subprocess.run(given, capture_output=True, text=True, env={**elsewhere, "MARQ_TOKEN": key})
    assert right.returncode == 0
    wrong = subprocess.run([*given, "--token", "x"], capture_output=True, text=True, env=elsewhere)
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("Error: InvalidKeyException (400): ")


def test_the_shell_completes_the_names_of_models(server):
    environment = {
        **server.environment,
        "_MARQ_COMPLETE": "complete_bash",
        "COMP_WORDS": "marq describe e",
        "COMP_CWORD": "2",
    }
    done = subprocess.run([MARQ], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.split() == ["echo"]


def test_the_shell_completes_the_archives_of_the_servers_model_store(server):
    environment = {
        **server.environment,
        "_MARQ_COMPLETE": "complete_bash",
        "COMP_WORDS": "marq register o",
        "COMP_CWORD": "2",
    }
    done = subprocess.run([MARQ], capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.split() == ["other-1.0.mar"]


def test_where_no_server_runs_the_shell_completes_nothing(tmp_path):
    environment = {
        **os.environ,
        "MARQ_STATE_DIR": str(tmp_path),
        "_MARQ_COMPLETE": "complete_bash",
        "COMP_WORDS": "marq describe e",
        "COMP_CWORD": "2",
    }
    done = subprocess.run([MARQ], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")


def test_replicas_are_replaced_by_one_command(told):
    before = {worker["pid"] for worker in told("describe", "echo", "--json")[0]["workers"]}
    assert told("reload", "echo") == "Workers reloaded for model: echo, version: 1.0\n"
    after = {worker["pid"] for worker in told("describe", "echo", "--json")[0]["workers"]}
    assert after and not after & before
