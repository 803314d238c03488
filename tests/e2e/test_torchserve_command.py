"""A script for TorchServe's users, run as it stands: real processes, the console script, curl."""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest
from support import START_TIMEOUT_S, wait_for
from torchserve_user import TORCHSERVE, User

REVERSE = """
import sys


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    print("rows:", len(data))
    return [bytes(row.get("body") or row.get("data")).decode()[::-1] for row in data]
"""


@pytest.fixture(scope="module")
def store(make_archive, tmp_path_factory):
    directory = tmp_path_factory.mktemp("store")
    for name in ("a", "b"):
        make_archive(directory, name, REVERSE, config={"minWorkers": 1, "maxWorkers": 1})
    return directory


@pytest.fixture
def user(tmp_path, store):
    # A directory with a short name: the path of a Unix socket is limited.
    home = Path(tempfile.mkdtemp(dir="/tmp"))
    user = User(home, store)
    yield user
    user.leave()
    shutil.rmtree(home, ignore_errors=True)


def test_a_script_for_torchserve_runs_unchanged(user):
    # Given the server that a script starts
    script = f"""
        torchserve --start --ncs --model-store {user.store} --models a.mar --ts-config config.properties \\
            > server.out 2>&1
        until curl -s {user.inference}/ping | grep -q Healthy; do sleep 0.2; done
        echo -n hello > file
    """
    user.shell(script)
    # When the script uses it
    assert user.shell(f"curl -sS -T file {user.inference}/predictions/a") == "olleh"
    registered = user.shell(
        f'curl -sS -X POST "{user.management}/models?url=b.mar&batch_size=8&max_batch_delay=50'
        '&initial_workers=1&synchronous=true"'
    )
    assert json.loads(registered) == {"status": 'Model "b" Version: 1.0 registered with 1 initial workers'}
    scaled = user.shell(f'curl -sS -X PUT "{user.management}/models/b?min_worker=2&synchronous=true"')
    assert json.loads(scaled) == {"status": "Workers scaled to 2 for model: b"}
    (described,) = json.loads(user.shell(f"curl -sS {user.management}/models/b"))
    assert (described["batchSize"], described["maxBatchDelay"]) == (8, 50)
    assert [worker["status"] for worker in described["workers"]] == ["READY", "READY"]
    assert user.shell(f"curl -sS -T file {user.inference}/predictions/b") == "olleh"
    # Then it ends as TorchServe does, and its logs are where TorchServe's are
    assert user.shell("torchserve --stop") == "TorchServe has stopped.\n"
    assert user.has_ended()
    assert not (user.home / "tmp" / ".model_server.pid").exists()
    assert "rows: 1" in (user.home / "logs" / "model_log.log").read_text()
    access = (user.home / "logs" / "access_log.log").read_text()
    assert '"PUT /predictions/a HTTP/1.1" 200 ' in access
    assert '"PUT /models/b?min_worker=2&synchronous=true HTTP/1.1" 200 ' in access
    told = (user.home / "logs" / "ts_log.log").read_text()
    assert ": number_of_netty_threads has no effect: " in told
    assert told.count("number_of_netty_threads") == 1
    assert "Model server started." in (user.home / "server.out").read_text()


@pytest.mark.slow
def test_start_leaves_a_server_in_the_background_and_a_second_one_is_refused(user):
    started = user.start("--models", "a.mar")
    assert started.returncode == 0
    assert int((user.home / "tmp" / ".model_server.pid").read_text()) > 0
    again = user.torchserve("--start", "--model-store", user.store)
    assert again.returncode == 1
    # what the first one logs comes to the same file
    assert again.stdout.startswith(
        "TorchServe is already running, please use torchserve --stop to stop TorchServe.\n"
    )


@pytest.mark.slow
def test_ncs_forgets_what_was_registered_over_http_and_without_it_that_is_kept(user):
    def registered() -> int:
        url = f"{user.management}/models?url=b.mar"
        return httpx.post(url, timeout=60).status_code

    user.start("--ncs")
    assert registered() == 200
    user.torchserve("--stop")
    user.start()
    assert httpx.get(f"{user.management}/models/b").status_code == 200
    assert registered() == 409
    user.torchserve("--stop")
    user.start("--ncs")
    assert httpx.get(f"{user.management}/models/b").status_code == 404
    assert registered() == 200


@pytest.mark.slow
def test_a_snapshot_of_torchserve_is_restored(user):
    stored = {"marName": "a.mar", "minWorkers": 2, "maxWorkers": 2, "batchSize": 3, "defaultVersion": True}
    snapshot = json.dumps({"name": "x", "modelCount": 1, "models": {"a": {"1.0": stored}}})
    with (user.home / "config.properties").open("a") as file:
        file.write(f"model_snapshot={snapshot}\n")
    user.start("--models", "b.mar")
    listed = httpx.get(f"{user.management}/models").json()["models"]
    assert [model["modelName"] for model in listed] == ["a"]
    assert httpx.get(f"{user.management}/models/a").json()[0]["batchSize"] == 3


def test_in_the_foreground_it_stays_until_it_is_stopped(user):
    command = [TORCHSERVE, "--foreground", "--model-store", user.store, "--ts-config", "config.properties"]
    with user.output.open("w") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, cwd=user.home, env=user.environment
        )
    wait_for(lambda: "Model server started." in user.output.read_text(), START_TIMEOUT_S, log=user.output)
    assert int((user.home / "tmp" / ".model_server.pid").read_text()) == process.pid
    user.output = user.home / "other"
    stopped = user.torchserve("--stop", "--foreground")
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert process.wait(60) == 0


@pytest.mark.slow
def test_logs_go_to_the_state_directory_where_the_working_directory_cannot_be_written(user):
    (user.home / "logs").touch()  # stops root, too
    user.start("--models", "a.mar")
    notice = f"{user.home}/logs cannot be written: logs go to {user.home}/state/marq/logs."
    assert notice in user.output.read_text()
    assert httpx.get(f"{user.inference}/ping").status_code == 200
    assert (user.home / "state" / "marq" / "logs" / "model_log.log").exists()


@pytest.mark.slow
def test_tokens_are_written_where_the_server_was_started_and_go_with_it(user):
    config = user.home / "config.properties"
    config.write_text(config.read_text().replace("disable_token_authorization=true\n", ""))
    user.start("--models", "a.mar")
    key = json.loads((user.home / "key_file.json").read_text())["inference"]["key"]
    assert httpx.get(f"{user.inference}/ping").status_code == 400
    headers = {"Authorization": f"Bearer {key}"}
    assert httpx.get(f"{user.inference}/ping", headers=headers).status_code == 200
    user.torchserve("--stop")
    assert not (user.home / "key_file.json").exists()


@pytest.mark.parametrize("flag", ["--disable-token-auth", pytest.param("--dt", marks=pytest.mark.slow)])
def test_tokens_can_be_switched_off(user, flag):
    config = user.home / "config.properties"
    config.write_text(config.read_text().replace("disable_token_authorization=true\n", ""))
    user.start(flag)
    assert httpx.get(f"{user.inference}/ping").status_code == 200
    assert not (user.home / "key_file.json").exists()


def test_stop_without_a_server(user):
    stopped = user.torchserve("--stop")
    assert (stopped.returncode, stopped.stdout) == (0, "TorchServe is not currently running.\n")


def test_a_pid_file_of_a_server_that_is_gone_is_removed(user):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    (user.home / "tmp" / ".model_server.pid").write_text(str(process.pid))
    stopped = user.torchserve("--stop")
    assert stopped.returncode == 0
    assert stopped.stdout == "Removing orphan pid file.\nTorchServe is not currently running.\n"


def test_a_process_that_only_got_the_pid_of_a_server_is_left_alone(user):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (user.home / "tmp" / ".model_server.pid").write_text(str(process.pid))
    assert "TorchServe is not currently running." in user.torchserve("--stop").stdout
    assert process.poll() is None
    process.kill()
    process.wait()


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_the_version_is_the_one_that_scripts_look_for(user, flag):
    told = user.torchserve(flag)
    assert (told.returncode, told.stdout) == (0, "TorchServe Version is 0.12.0\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start"], "Missing mandatory parameter --model-store"),
        (["--model-store", "no"], "--model-store directory not found: no"),
        (["--model-store", ".", "--workflow-store", "no"], "--workflow-store directory not found: no"),
        (["--model-store", ".", "--ts-config", "no"], "--ts-config file not found: no"),
        (["--model-store", ".", "--log-config", "no"], "--log-config file not found: no"),
        (["--model-store", ".", "--cpp-log-config", "no"], "--cpp-log-config file not found: no"),
    ],
    ids=lambda value: value[-2] if isinstance(value, list) and len(value) > 1 else "",
)
def test_what_is_missing_is_told_in_torchserves_words(user, arguments, message):
    told = user.torchserve(*arguments)
    assert (told.returncode, told.stdout) == (1, message + "\n")


def test_a_temporary_directory_that_is_none_is_told(user):
    told = user.torchserve("--model-store", ".", TEMP="/no/such/directory")
    assert told.returncode == 1
    assert told.stdout == (
        "Invalid temp directory: /no/such/directory, please check TEMP environment variable.\n"
    )


def test_a_wrong_setting_is_told_with_its_line(user):
    (user.home / "config.properties").write_text("\njob_queue_size=many\n")
    told = user.torchserve("--model-store", ".")
    assert told.returncode == 1
    assert told.stdout.startswith("config.properties:2: job_queue_size: must be a whole number")


@pytest.mark.parametrize("arguments", [["--nonsense"], ["--start", "--stop"], ["--models"]], ids=" ".join)
def test_wrong_usage_exits_with_2(user, arguments):
    assert user.torchserve(*arguments).returncode == 2


def test_flags_without_effect_are_accepted_abbreviated_too_and_told_once(user):
    (user.home / "log4j.xml").touch()
    user.start("--log-conf", "log4j.xml", "--ppath", "plugins", "--workflow-store", ".", "--cpp", "log4j.xml")
    log = user.home / "logs" / "ts_log.log"
    flags = ("--log-config", "plugins_path", "--cpp-log-config")

    def told() -> list[int]:
        text = log.read_text() if log.exists() else ""
        return [text.count(f" {flag} has no effect") for flag in flags]

    wait_for(lambda: all(told()), what="the lines")
    assert told() == [1] * len(flags)
