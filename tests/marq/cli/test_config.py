import json
import os
from pathlib import Path

import pytest
import redis

from marq.settings.fields import Settings


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


def test_the_secret_of_webhooks_is_shown_nowhere(run, monkeypatch):
    monkeypatch.setenv("MARQ_WEBHOOK_SECRET", f"whsec_{'A' * 32}")
    result = run("config", "--json")
    assert json.loads(result.stdout)["settings"]["webhook_secret"]["value"] == "***"
    assert "AAAA" not in result.stdout + result.stderr
    # Not even one that is wrong
    for wrong in ("geheim", f"whsec_{'A' * 31}", "whsec_geheim"):
        monkeypatch.setenv("MARQ_WEBHOOK_SECRET", wrong)
        result = run("config")
        assert (result.exit_code, wrong in result.stdout + result.stderr) == (1, False)
        assert "must be whsec_ and the base64 of 24 to 64 bytes" in " ".join(result.stderr.split())


def test_all_that_is_wrong_is_named(run):
    Path("config.properties").write_text("job_queue_size=x\nmetrics_mode=y\n")
    result = run("config")
    assert result.exit_code == 1
    first, second = result.stderr.splitlines()  # a line each
    assert "config.properties:1: job_queue_size: must be a whole number" in first
    assert second.startswith("Error: config.properties:2: metrics_mode: ")


def test_the_settings_of_a_server_that_runs_are_shown(run, note_server):
    Path("config.properties").write_text("job_queue_size=5\n")
    settings = Settings(job_queue_size=7).model_dump(mode="json", exclude={"keystore_pass"})
    note_server(settings=settings, sources={"job_queue_size": "my.properties:3"})
    result = run("config", "--json")
    told = json.loads(result.stdout)
    assert told["server"] == os.getpid()
    assert told["settings"]["job_queue_size"] == {"value": 7, "source": "my.properties:3"}
    assert told["settings"]["redis_url"]["value"] == "redis://127.0.0.1:1/0"
    assert "server that runs" in " ".join(run("config").stderr.split())
    told = json.loads(run("config", "--ts-config", "config.properties", "--json").stdout)
    assert (told["server"], told["settings"]["job_queue_size"]["value"]) == (None, 5)


def test_the_url_of_redis_is_one_for_clients_of_any_language(run, note_server, redis_url):
    # Given a server whose Redis is reached through a Unix socket
    assert redis_url.startswith("unix:")
    note_server(redis_url=redis_url)
    # When its URL is asked for
    result = run("redis-url")
    url = result.stdout.strip()
    # Then it is that of the TCP port, of the same Redis
    assert url.startswith("redis://default:")  # redis-cli takes an empty user at its word
    with redis.Redis.from_url(redis_url) as one, redis.Redis.from_url(url) as other:
        one.set("here", "yes")
        assert other.get("here") == b"yes"
    assert "redis-cli -s " in " ".join(result.stderr.split())
    assert run("redis-url", "--socket").stdout.strip() == redis_url
    assert json.loads(run("redis-url", "--json").stdout) == {"url": url}


def test_without_a_server_there_is_no_url(run):
    result = run("redis-url")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "No marq server runs" in result.stderr
