import subprocess
import sys
from pathlib import Path

import pytest

from marq import __version__

MARQ = Path(sys.executable).with_name("marq")
COMMANDS = [
    *("start", "stop", "status", "top", "logs", "config", "doctor", "migrate", "gateway", "node", "bridge"),
    *(
        "models",
        "describe",
        "register",
        "scale",
        "reload",
        "set-default",
        "unregister",
        "archive",
        "run",
        "redis-url",
    ),
    *("predict", "explain", "bench", "submit", "job"),
]
HEAVY = {"torch", "celery", "fastapi", "redis", "httpx", "pydantic", "psutil"}


def marq(*arguments, **options):
    return subprocess.run([MARQ, *arguments], capture_output=True, text=True, timeout=60, **options)


def test_the_console_script_answers_help_and_names_all_commands():
    answer = marq("--help")
    assert answer.returncode == 0
    assert all(f" {command} " in answer.stdout for command in COMMANDS)


def test_help_imports_nothing_heavy():
    code = f"import sys, marq.cli.app; print(sorted({HEAVY!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_teaches_by_an_example(run, command):
    for option in ("--help", "-h"):
        result = run(command, option)
        assert result.exit_code == 0
        assert f"Example: marq {command}" in result.stdout


def test_version_is_that_of_the_package():
    assert marq("--version").stdout == f"marq {__version__}\n"


@pytest.mark.parametrize(
    "wrong",
    [
        ["nonsense"],
        ["start", "--nonsense"],
        ["start", "--models", "--ts-config", "x"],
        ["start", "--gateway-workers", "0"],
        ["node"],
        ["archive", "--model-name", "m"],
        ["predict", "m", "no-such-file"],
        ["job", "m:1", "--result", "--json"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(run, wrong):
    assert run(*wrong).exit_code == 2


def test_the_console_script_passes_exit_codes_on(tmp_path):
    environment = {"MARQ_STATE_DIR": str(tmp_path), "HOME": str(tmp_path)}
    for command, code in ((["stop"], 0), (["status"], 1), (["start", "--nonsense"], 2)):
        answer = marq(*command, env=environment)
        assert answer.returncode == code
        assert "Traceback" not in answer.stderr
