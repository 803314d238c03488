"""An option that has no effect beside the others says so, or is refused."""

import json
import os

import pytest
import redis

from marq.cli import torchserve_command
from marq.registry.models import Registry
from marq.settings.properties import ignored


@pytest.fixture
def quiet_server(note_server, redis_url):
    """A server without models, as `status` and `top` see it."""
    note_server(redis_url=redis_url)
    with redis.Redis.from_url(redis_url) as client:
        yield Registry(client)


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["top", "--once"], ["top", "--json"]])
def test_an_interval_without_a_second_view(run, quiet_server, command):
    assert run(*command).stderr == ""
    told = run(*command, "--interval", "3")
    assert told.stderr.startswith("Note: --interval has no effect: ")
    assert told.exit_code == 0


def test_a_number_of_requests_beside_a_duration(run, server, tmp_path):
    server.answer("POST /predictions/m", b"seen")
    (tmp_path / "body").touch()
    done = run("bench", "m", tmp_path / "body", "-d", "0.1", "-n", "7", "-c", "1", "--json")
    assert "--requests has no effect: --duration says how long it takes." in done.stderr
    assert json.loads(done.stdout)["failed"] == 0


def test_a_limit_of_letters_that_are_counted(run, server, note_server):
    note_server(management_address=server.address)
    server.answer("GET /dead-letters", {"models": []})
    assert "--limit has no effect" in run("dead", "list", "--limit", "3").stderr
    assert run("dead", "list").stderr == ""


@pytest.mark.parametrize("option", ["--version", "--state", "--tag"])
def test_a_filter_beside_the_ids_of_jobs_is_refused(run, server, option):
    refused = run("cancel", "m:1", option, "x")
    assert (refused.exit_code, server.asked) == (2, [])


def test_a_state_directory_beside_the_url_of_a_server(run, server, tmp_path):
    server.answer("GET /jobs", {"jobs": [], "counts": {}})
    told = run("jobs", "--url", server.address, "--state-dir", tmp_path)
    assert "--state-dir has no effect: --url names the server." in told.stderr


def test_a_file_beside_torchserves_variable(run, tmp_path, monkeypatch):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.touch()
    theirs.write_text("job_queue_size=6\n")
    monkeypatch.setenv("TS_CONFIG_FILE", str(theirs))
    told = run("config", "--ts-config", ours, "--json")
    found = json.loads(told.stdout)
    assert found["settings"]["job_queue_size"]["value"] == 6
    assert f"--ts-config {ours} has no effect: TS_CONFIG_FILE names {theirs}." in found["notices"]
    assert ignored(theirs) == ignored(None) == []


def test_flags_of_a_stop_of_torchserve(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit):
        torchserve_command.main(["--stop", "--models", "a.mar", "--ncs", "--foreground"])
    shown = capsys.readouterr()
    assert shown.out == "TorchServe is not currently running.\n"
    assert shown.err.splitlines() == [
        "--models has no effect with --stop.", "--no-config-snapshots has no effect with --stop.",
    ]  # fmt: skip


def test_gpus_that_a_node_does_not_have(run, redis_url, monkeypatch):
    for name, value in {
        "CUDA_VISIBLE_DEVICES": "0,1",
        "MARQ_REDIS_URL": "",
        "MARQ_NUMBER_OF_GPU": "",
    }.items():
        monkeypatch.setenv(name, value)  # the command sets the latter two
    monkeypatch.setattr(os, "execv", lambda *_: None)
    told = run("node", "--redis-url", redis_url, "--number-of-gpu", 3)
    assert "--number-of-gpu has no effect: this host has 2 GPUs." in told.stderr
    assert run("node", "--redis-url", redis_url, "--number-of-gpu", 2).stderr == ""


def test_a_variable_that_is_not_a_setting_of_a_node(run, redis_url, monkeypatch):
    monkeypatch.setenv("MARQ_LOG_FORMATT", "json")
    monkeypatch.setenv("MARQ_REDIS_URL", redis_url)
    monkeypatch.setattr(os, "execv", lambda *_: None)
    told = " ".join(run("node").stderr.split())
    assert "MARQ_LOG_FORMATT is not a setting. Did you mean MARQ_LOG_FORMAT?" in told
