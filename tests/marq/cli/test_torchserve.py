"""The checks of the `torchserve` command, before it becomes a server; `e2e/` starts real ones."""

import os
import subprocess
import sys
import tempfile

import psutil
import pytest

from marq.cli import torchserve_command as torchserve
from marq.host import supervisor

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """An empty working directory, and another one for the pid file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("TEMP", raising=False)
    return tmp_path


@pytest.fixture
def pid_file(temporary):
    return temporary / "tmp" / torchserve.PID_FILE


@pytest.fixture
def command(capsys):
    """Runs the command: its exit code and what it prints."""

    def command(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            torchserve.main(arguments)
        return int(ended.value.code or 0), capsys.readouterr().out

    return command


@pytest.fixture
def running(pid_file):
    """Starts a process that looks like a server, and notes its pid."""
    started = []

    def start(code: str = SLEEP, name: str = "torchserve") -> psutil.Process:
        process = subprocess.Popen([sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "up\n"
        pid_file.write_text(str(process.pid))
        return psutil.Process(process.pid)

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def resolved(monkeypatch):
    """The settings with which servers would have been started in the foreground."""
    found = []

    def start(settings, announce):
        found.append(settings)
        raise SystemExit(0)

    monkeypatch.setattr(supervisor, "start", start)
    return found


def test_the_version_is_that_of_torchserve(command):
    code, text = command("--version")
    assert (code, text.startswith("TorchServe Version is 0.12")) == (0, True)


@pytest.mark.parametrize("content", [None, "999999999", "no number"])
def test_where_none_runs_a_stop_says_so(command, pid_file, content):
    if content:
        pid_file.write_text(content)
    code, text = command("--stop")
    orphan = "Removing orphan pid file.\n" if content else ""
    assert (code, text) == (0, f"{orphan}TorchServe is not currently running.\n")
    assert not pid_file.exists()


@pytest.mark.parametrize("module", ["marq.cli.torchserve_command", "psutil", "marq.host.supervisor"])
def test_ctrl_c_during_the_imports_ends_it_without_a_traceback(module, temporary):
    # Given an import that Ctrl-C interrupts
    hook = temporary / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}:\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
    )
    command = [sys.executable, "-m", "marq.cli.torchserve", "--start", "--model-store", "store"]
    environment = {**os.environ, "PYTHONPATH": str(hook), "TMPDIR": str(temporary / "tmp")}
    # When the command is run
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    # Then
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_process_that_is_not_a_server_is_left_alone(command, running):
    other = running(name="another program")
    assert "TorchServe is not currently running." in command("--stop")[1]
    assert other.status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(("arguments", "text"), [([], "TorchServe has stopped.\n"), (["--foreground"], "")])
def test_a_stop_ends_the_server_and_forgets_its_keys(command, running, pid_file, temporary, arguments, text):
    (temporary / torchserve.KEY_FILE).touch()
    server = running()
    assert command("--stop", *arguments) == (0, text)
    assert server.status() == psutil.STATUS_ZOMBIE
    assert not pid_file.exists()
    assert not (temporary / torchserve.KEY_FILE).exists()


def test_a_server_that_does_not_stop_keeps_its_pid_file(command, running, pid_file, monkeypatch):
    monkeypatch.setattr(torchserve, "STOP_TIMEOUT_S", 0.1)
    monkeypatch.setattr("marq.host.stop_limit.LEAST_S", 0.0)
    running(STUBBORN)
    assert command("--stop") == (0, "Stopping TorchServe took too long.\n")
    assert pid_file.exists()


def test_a_second_server_is_refused(command, running):
    running()
    assert command("--start", "--model-store", "store") == (
        1,
        "TorchServe is already running, please use torchserve --stop to stop TorchServe.\n",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing mandatory parameter --model-store"),
        (["--model-store", "no"], "--model-store directory not found: no"),
        (["--model-store", "store", "--workflow-store", "no"], "--workflow-store directory not found: no"),
        (["--model-store", "store", "--log-config", "no"], "--log-config file not found: no"),
    ],
)
def test_what_is_missing_is_named(command, arguments, message):
    assert command("--start", *arguments) == (1, f"{message}\n")


def test_a_temporary_directory_that_is_missing_ends_the_start(command, monkeypatch):
    monkeypatch.setenv("TEMP", "/nowhere")
    code, text = command("--start", "--model-store", "store")
    assert (code, "Invalid temp directory: /nowhere" in text) == (1, True)


def test_wrong_settings_end_the_start(command, temporary):
    (temporary / "config.properties").write_text("job_queue_size=many\n")
    code, text = command("--start", "--model-store", "store", "--foreground")
    assert code == 1
    assert "job_queue_size" in text


def test_flags_become_settings(command, resolved, pid_file, temporary):
    flags = "--foreground --ncs --disable-token-auth --enable-model-api --plugins-path p"
    models = ["--model-store", "store", "--models", "a.mar", "b=c.mar"]
    assert command("--start", *models, *flags.split()) == (0, "")
    [found] = resolved
    settings = found.settings
    assert (settings.model_store, settings.models) == (temporary / "store", "a.mar,b=c.mar")
    assert settings.forget_models
    assert settings.disable_token_auth
    assert settings.enable_model_api
    assert settings.log_dir == temporary / "logs"
    assert settings.plugins_path == str(temporary / "p")
    assert found.without_effect == []
    assert pid_file.read_text() == str(os.getpid())


def test_in_the_background_a_process_of_its_own_becomes_the_server(command, pid_file, monkeypatch):
    started = []

    class Child:
        pid = 42

        def __init__(self, arguments, **_):
            started.append(arguments)

    monkeypatch.setattr(torchserve.subprocess, "Popen", Child)
    assert command("--start", "--model-store", "store") == (0, "")
    [arguments] = started
    assert arguments[5:] == ["marq.cli.torchserve", "--start", "--model-store", "store", "--foreground"]
    assert pid_file.read_text() == "42"
