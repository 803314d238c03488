import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from marq.settings.loading import load
from marq.settings.properties import SettingsError
from marq.settings.state_dir import default_state_dir


@pytest.fixture(autouse=True)
def no_settings_in_the_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MARQ_", "TS_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path):
    """Writes a config.properties."""

    def write(*lines: str) -> Path:
        path = tmp_path / "config.properties"
        path.write_text("\n".join(lines))
        return path

    return write


def refused(*arguments, **options) -> str:
    with pytest.raises(SettingsError) as caught:
        load(*arguments, **options)
    return str(caught.value)


def test_without_any_source_the_defaults_are_torchserves():
    loaded = load()
    assert loaded.inference_address == "http://127.0.0.1:8080"
    assert loaded.management_address == "http://127.0.0.1:8081"
    assert (loaded.job_queue_size, loaded.default_response_timeout) == (100, 120)
    assert (loaded.max_request_size, loaded.max_response_size) == (6553500, 6553500)
    assert loaded.redis_url == ""


def test_the_first_source_that_knows_a_setting_wins(config, monkeypatch):
    # Given a setting in more and more sources
    path = config("job_queue_size=1")
    values = [load().job_queue_size, load(path).job_queue_size]
    monkeypatch.setenv("MARQ_JOB_QUEUE_SIZE", "2")
    values += [load(path).job_queue_size, load(path, job_queue_size=3).job_queue_size]
    # Then it is the command line's, else the environment's, else the file's, else the default
    assert values == [100, 1, 2, 3]


def test_what_the_command_line_leaves_out_comes_from_elsewhere(config):
    assert load(config("job_queue_size=7"), job_queue_size=None).job_queue_size == 7


def test_a_false_flag_of_the_command_line_is_given(config):
    assert load(config("enable_model_api=true"), enable_model_api=False).enable_model_api is False


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        ("load_models=a.mar,b=c.mar", "models", "a.mar,b=c.mar"),
        ("disable_token_authorization=true", "disable_token_auth", True),
        ('models={"m": {"1.0": {"minWorkers": 2}}}', "model_settings", '{"m": {"1.0": {"minWorkers": 2}}}'),
        ("model_store=/models", "model_store", Path("/models")),
        ("number_of_gpu=2", "number_of_gpu", 2),
        ("decode_input_request=false", "decode_input_request", False),
        ("allowed_urls=file:///a/.*,https://b/.*", "allowed_urls", "file:///a/.*,https://b/.*"),
    ],
)
def test_torchserves_own_names_are_understood(config, line, name, value):
    assert getattr(load(config(line)), name) == value


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("job_queue_size", "many", "must be a whole number"),
        ("job_queue_size", "0", "greater than 0"),
        ("number_of_gpu", "-1", "greater than or equal to 0"),
        ("grpc_inference_port", "70000", "less than 65536"),
        ("token_expiration_min", "soon", "must be a number"),
        ("metrics_mode", "loud", "log|prometheus|legacy"),
        ("log_format", "xml", "text|json"),
        ("inference_address", "127.0.0.1", "http://host:port"),
        ("management_address", "ftp://127.0.0.1:8081", "https://host:port"),
        ("inference_address", "http://127.0.0.1:99999", "unix:/path"),
        ("allowed_urls", "file://(", "not a regular expression"),
        ("model_snapshot", "{}", "marName"),
    ],
)
def test_a_bad_value_names_its_place_the_setting_and_what_is_allowed(
    config, monkeypatch, name, value, allowed
):
    # Given a value that is bad, on the command line, in the file, and in the environment
    path = config("# a comment", f"{name}={value}")
    messages = {f"{name}: ": refused(**{name: value}), f"{path}:2: {name}: ": refused(path)}
    monkeypatch.setenv(f"MARQ_{name.upper()}", value)
    messages[f"MARQ_{name.upper()}: "] = refused()
    # Then each place is named
    for beginning, message in messages.items():
        assert message.startswith(beginning)
        assert allowed in message
        assert value in message


def test_all_that_is_wrong_is_told_at_once(config):
    path = config("job_queue_size=x", "", "metrics_mode=y", "colour=red")
    assert [line.split(": ")[0] for line in refused(path).splitlines()] == [f"{path}:1", f"{path}:3"]


def test_marqs_own_sources_of_booleans_stay_strict(monkeypatch):
    assert "must be true or false" in refused(enable_model_api="perhaps")
    monkeypatch.setenv("MARQ_ENABLE_MODEL_API", "perhaps")
    assert "must be true or false (given: 'perhaps')" in refused()


def test_the_models_json_gives_settings_to_one_version():
    given = {"m": {"1.0": {"minWorkers": 2, "maxWorkers": 0, "batchSize": -1, "deviceType": "cpu"}}}
    loaded = load(model_settings=json.dumps(given))
    assert loaded.model_defaults("m", "1.0") == {"minWorkers": 2, "deviceType": "cpu"}
    assert loaded.model_defaults("m", "2.0") == loaded.model_defaults("n", "1.0") == {}


def test_the_processes_of_a_server_read_the_same_settings(config):
    # Given settings from a file and a command line
    path = config("number_of_gpu=0", "models={}", "enable_envvars_config=false", "keystore_type=PKCS12")
    loaded = load(
        path,
        state_dir=Path("/s"), disable_token_auth=True, token_expiration_min=1.5, allowed_urls="a=b,c",
    )  # fmt: skip
    # When another process has them in its environment
    code = "from marq.settings import inherited, {0}; print(repr({0}.load()))"
    environment = {**os.environ, **loaded.environment()}
    for way in ("loading", "inherited"):
        command = [sys.executable, "-c", code.format(way)]
        seen = subprocess.run(command, env=environment, capture_output=True, text=True)
        # Then it loads the same, whether it checks them again or not
        assert seen.stdout.strip() == repr(loaded)


def test_settings_that_a_server_has_checked_are_not_checked_again(tmp_path):
    code = """
from marq.settings import inherited
from marq.settings.fields import Settings
print(inherited.load().max_request_size, Settings.__pydantic_complete__)
"""
    environment = {**os.environ, **load(max_request_size=7, state_dir=tmp_path).environment()}
    seen = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert seen.stdout.split() == ["7", "False"]


def test_the_state_directory_follows_the_xdg_variable(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_dir() == tmp_path / "marq"
    monkeypatch.delenv("XDG_STATE_HOME")
    assert default_state_dir() == Path.home() / ".local/state/marq"
