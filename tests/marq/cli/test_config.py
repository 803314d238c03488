import json
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_setting_has_its_value_and_source(run, monkeypatch):
    Path("config.properties").write_text("# here\njob_queue_size=5\nload_models=all\nio_ratio=3\n")
    monkeypatch.setenv("MARQ_GATEWAY_WORKERS", "3")
    told = json.loads(run("config", "--json").stdout)
    assert told["settings"]["job_queue_size"] == {"value": 5, "source": "config.properties:2"}
    assert told["settings"]["models"] == {"value": "all", "source": "config.properties:3"}
    assert told["settings"]["gateway_workers"] == {"value": 3, "source": "MARQ_GATEWAY_WORKERS"}
    assert told["settings"]["max_request_size"] == {"value": 6553500, "source": "default"}
    assert [line.split(": ")[1] for line in told["without_effect"]] == ["io_ratio has no effect"]


def test_the_table_shows_what_is_changed_and_notes_go_to_stderr(run):
    Path("my.properties").write_text("job_queue_size=5\nio_ratio=3\n")
    result = run("config", "--ts-config", "my.properties", "--changed")
    assert "my.properties:1" in result.stdout
    assert "max_request_size" not in result.stdout
    assert " ".join(result.stderr.split()).startswith("Note: my.properties:2: io_ratio has no effect: ")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_passwords_are_not_shown(run, monkeypatch, as_json):
    monkeypatch.setenv("MARQ_REDIS_URL", "redis://user:geheim@h:1/0?password=geheim")
    monkeypatch.setenv("MARQ_KEYSTORE_PASS", "geheim")
    result = run("config", *as_json)
    assert result.exit_code == 0
    assert "redis://user:***@h:1/0" in result.stdout
    assert "geheim" not in result.stdout + result.stderr


def test_all_that_is_wrong_is_named(run):
    Path("config.properties").write_text("job_queue_size=x\nmodle_store=/m\n")
    result = run("config")
    assert result.exit_code == 1
    assert "config.properties:1: job_queue_size: Input should be a valid integer" in result.stderr
