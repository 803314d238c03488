from pathlib import Path

import pytest

from marq import logs
from marq.errors import MarqError
from marq.host import supervisor


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The settings that supervisors were started with; none of them runs."""
    settings = []

    class Supervisor:
        def __init__(self, config, *_):
            settings.append(config)

        def run(self):
            pass

    monkeypatch.setattr(supervisor, "Supervisor", Supervisor)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setenv("MARQ_LOG_FORMAT", "text")
    monkeypatch.chdir(tmp_path)
    return settings


def test_options_become_settings(run, started, tmp_path):
    (tmp_path / "store").mkdir()
    result = run(
        *("start", "--model-store", "store", "--models", "a.mar", "b=b.mar", "--redis-url", "redis://r"),
        *("--gateway-workers", 3, "--state-dir", "here", "--disable-token-auth", "--enable-model-api"),
    )
    assert result.exit_code == 0
    (config,) = started
    assert config.models == "a.mar,b=b.mar"
    assert (config.model_store, config.state_dir) == (tmp_path / "store", tmp_path / "here")
    assert (config.redis_url, config.gateway_workers) == ("redis://r", 3)
    assert config.disable_token_auth
    assert config.enable_model_api


def test_workflows_may_have_a_store_of_their_own(run, started, tmp_path):
    (tmp_path / "flows").mkdir()
    run("start", "--workflow-store", "flows")
    assert started[0].workflow_store == tmp_path / "flows"


def test_several_models_options_add_up(run, started):
    run("start", "--models", "a.mar", "--models", "b.mar,c.mar")
    assert started[0].models == "a.mar,b.mar,c.mar"


def test_flags_that_are_not_given_leave_the_file_its_say(run, started, tmp_path):
    config = tmp_path / "my.properties"
    config.write_text("disable_token_authorization=true\nload_models=all\njob_queue_size=7\n")
    run("start", "--ts-config", config)
    assert started[0].disable_token_auth
    assert (started[0].models, started[0].job_queue_size) == ("all", 7)


def test_flags_win_over_the_file(run, started, tmp_path):
    config = tmp_path / "my.properties"
    config.write_text("load_models=all\n")
    run("start", "--models", "a.mar", "--ts-config", config)
    assert started[0].models == "a.mar"


def test_a_config_properties_in_the_current_directory_is_found_as_torchserve_does(run, started):
    Path("config.properties").write_text("job_queue_size=5\n")
    run("start")
    assert started[0].job_queue_size == 5


def test_the_config_file_may_be_named_by_torchserves_variable(run, started, tmp_path, monkeypatch):
    (tmp_path / "other").write_text("job_queue_size=6\n")
    monkeypatch.setenv("TS_CONFIG_FILE", str(tmp_path / "other"))
    run("start")
    assert started[0].job_queue_size == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ts-config", "missing"], "Error: --ts-config file not found: missing"),
        (["--model-store", "missing"], "Error: --model-store directory not found: "),
        (["--workflow-store", "missing"], "Error: --workflow-store directory not found: "),
    ],
)
def test_what_is_not_there_is_told_in_one_line(run, started, arguments, message):
    result = run("start", *arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1
    assert started == []


def test_what_the_supervisor_raises_is_told_in_one_line(run, monkeypatch):
    def run_into(self):
        raise MarqError("The port is taken.\nBy someone else.")

    monkeypatch.setattr(supervisor.Supervisor, "run", run_into)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setenv("MARQ_LOG_FORMAT", "text")
    result = run("start")
    assert (result.exit_code, result.stderr) == (1, "Error: The port is taken. By someone else.\n")


def test_what_is_odd_about_the_settings_is_logged_once(run, started, caplog):
    Path("config.properties").write_text("vmargs=-Xmx4g\nio_ratio=3\n")
    run("start")
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "vmargs has no effect", "io_ratio has no effect",
    ]  # fmt: skip


def test_host_and_ports_change_parts_of_the_addresses_of_the_file(run, started, tmp_path):
    config = tmp_path / "my.properties"
    config.write_text("inference_address=https://10.0.0.1:8443\nmetrics_address=http://127.0.0.1:7\n")
    result = run(
        *("start", "--ts-config", config, "--host", "0.0.0.0", "--port", 9443),
        *("--management-port", 9081, "--workers", 3),
    )
    assert result.exit_code == 0
    (settings,) = started
    assert settings.inference_address == "https://0.0.0.0:9443"
    assert settings.management_address == "http://0.0.0.0:9081"
    assert settings.metrics_address == "http://0.0.0.0:7"
    assert settings.default_workers_per_model == 3


def test_a_port_alone_leaves_the_other_addresses(run, started):
    run("start", "--metrics-port", 9082)
    assert started[0].inference_address == "http://127.0.0.1:8080"
    assert started[0].metrics_address == "http://127.0.0.1:9082"


def test_a_port_for_a_unix_socket_is_refused_in_one_line(run, started):
    Path("config.properties").write_text("inference_address=unix:/tmp/s\n")
    result = run("start", "--port", 9000)
    assert (result.exit_code, started) == (1, [])
    assert "inference_address unix:/tmp/s is a Unix socket" in result.stderr


def test_grpc_has_the_host_and_ports_of_its_own(run, started, monkeypatch):
    monkeypatch.setenv("MARQ_ENABLE_GRPC", "true")
    result = run("start", "--host", "0.0.0.0", "--grpc-port", 9070, "--grpc-management-port", 9071)
    assert result.exit_code == 0
    (settings,) = started
    assert (settings.grpc_inference_address, settings.grpc_inference_port) == ("0.0.0.0", 9070)
    assert (settings.grpc_management_address, settings.grpc_management_port) == ("0.0.0.0", 9071)


def test_a_grpc_port_without_an_effect_is_a_warning(run, started, monkeypatch, caplog):
    run("start", "--grpc-port", 9070)  # gRPC is off
    monkeypatch.setenv("MARQ_ENABLE_GRPC", "true")
    monkeypatch.setenv("MARQ_GRPC_INFERENCE_ADDRESS", "unix:/tmp/s")
    run("start", "--grpc-port", 9070, "--host", "0.0.0.0")
    assert [record.getMessage() for record in caplog.records] == [
        "grpc_inference_port has no effect: enable_grpc is off.",
        "grpc_inference_port has no effect: grpc_inference_address is a Unix socket.",
    ]
    assert started[1].grpc_inference_address == "unix:/tmp/s"
