from pathlib import Path

import pytest

from marq.settings import torchserve_keys
from marq.settings.fields import Settings
from marq.settings.loading import resolve
from marq.settings.properties import SettingsError


@pytest.fixture
def file(tmp_path):
    """Writes a config.properties."""

    def write(*lines: str) -> Path:
        path = tmp_path / "config.properties"
        path.write_text("\n".join(lines))
        return path

    return write


def test_each_value_knows_where_it_comes_from(file):
    path = file("", "job_queue_size=1", "load_models=all", "enable_envvars_config=true")
    environ = {"MARQ_GATEWAY_WORKERS": "2", "TS_MAX_REQUEST_SIZE": "7", "LOG_LOCATION": "/logs"}
    resolved = resolve(path, {"redis_url": "redis://r", "state_dir": None}, environ)
    assert resolved.sources == {
        "job_queue_size": f"{path}:2",
        "models": f"{path}:3",
        "enable_envvars_config": f"{path}:4",
        "gateway_workers": "MARQ_GATEWAY_WORKERS",
        "max_request_size": "TS_MAX_REQUEST_SIZE",
        "log_location": "LOG_LOCATION",
        "redis_url": "command line",
    }


@pytest.mark.parametrize("switch", ["TRUE", "1"])
def test_torchserves_variables_win_over_all_where_the_file_allows_them(file, switch):
    path = file(f"enable_envvars_config={switch}", "job_queue_size=1")
    environ = {"TS_JOB_QUEUE_SIZE": "4", "MARQ_JOB_QUEUE_SIZE": "2"}
    assert resolve(path, {"job_queue_size": 3}, environ).settings.job_queue_size == 4


def test_torchserves_variables_that_the_file_does_not_allow_are_told_not_used(file):
    resolved = resolve(file("job_queue_size=1"), {}, {"TS_JOB_QUEUE_SIZE": "4"})
    assert resolved.settings.job_queue_size == 1
    assert resolved.notices == [
        "TS_JOB_QUEUE_SIZE is not used: that needs enable_envvars_config=true in config.properties "
        "(or set MARQ_JOB_QUEUE_SIZE)."
    ]


def test_allowed_urls_needs_a_switch_of_its_own(file):
    environ = {"TS_ALLOWED_URLS": "https://a/.*"}
    path = file("enable_envvars_config=true")
    resolved = resolve(path, {}, environ)
    assert resolved.settings.allowed_urls == ""
    assert "use_env_allowed_urls=true" in resolved.notices[0]
    path = file("enable_envvars_config=true", "use_env_allowed_urls=true")
    assert resolve(path, {}, environ).settings.allowed_urls == "https://a/.*"


def test_oip_is_read_without_any_switch():
    assert resolve(None, {}, {"TS_OPEN_INFERENCE_PROTOCOL": "oip"}).settings.ts_open_inference_protocol


def test_the_minutes_of_tokens_have_a_variable_of_another_name(file):
    path = file("enable_envvars_config=true")
    environ = {"TS_TOKEN_EXPIRATION_TIME_MIN": "5", "TS_TOKEN_EXPIRATION_MIN": "6"}
    assert resolve(path, {}, environ).settings.token_expiration_min == 5


def test_a_server_s_processes_do_not_read_torchserves_variables_again(file):
    # Given settings that a variable of TorchServe's has changed
    environ = {"TS_JOB_QUEUE_SIZE": "4"}
    resolved = resolve(file("enable_envvars_config=true"), {}, environ)
    # When a process of the server reads its own environment
    child = resolve(None, {}, {**resolved.settings.environment(), "TS_JOB_QUEUE_SIZE": "5"})
    # Then what was settled stays
    assert child.settings.job_queue_size == 4


def test_an_unknown_key_is_a_warning_with_the_one_that_was_meant(file):
    path = file("job_queue_size=1", "modle_store=/m", "colour=red")
    resolved = resolve(path, {}, {})
    assert resolved.settings.job_queue_size == 1
    assert resolved.without_effect == [
        f'{path}:2: unknown key "modle_store" has no effect. Did you mean "model_store"?',
        f'{path}:3: unknown key "colour" has no effect. docs/compatibility-configuration.md lists the keys.',
    ]


@pytest.mark.parametrize("strict", ["file", "command line", "variable"])
def test_lines_without_an_effect_are_errors_where_that_is_asked_for(file, strict):
    path = file("vmargs=-Xmx1g", "colour=red", *(["strict_config=true"] if strict == "file" else []))
    given = {"strict_config": True} if strict == "command line" else {}
    environ = {"MARQ_STRICT_CONFIG": "true"} if strict == "variable" else {}
    with pytest.raises(SettingsError) as caught:
        resolve(path, given, environ)
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [f"{path}:1", f"{path}:2"]


def test_marqs_own_settings_may_stand_in_the_file(file):
    settings = resolve(file("redis_url=redis://r", "access_log=false"), {}, {}).settings
    assert (settings.redis_url, settings.access_log) == ("redis://r", False)


def test_a_variable_that_is_nearly_a_setting_is_told():
    resolved = resolve(None, {}, {"MARQ_REDIS_ULR": "redis://r", "MARQ_TOKEN": "t", "MARQ_NODE": "n"})
    assert resolved.notices == ["MARQ_REDIS_ULR is not a setting. Did you mean MARQ_REDIS_URL?"]


def test_every_key_has_one_meaning_only():
    assert not set(torchserve_keys.MEANINGLESS) & set(Settings.model_fields)
    assert set(torchserve_keys.RENAMED.values()) <= set(Settings.model_fields)
