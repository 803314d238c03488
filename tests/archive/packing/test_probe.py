import time
from pathlib import Path

import pytest

from archive.packing.probe import probe

HANDLE = "def handle(data, context):\n    return data\n"


@pytest.fixture
def finding(tmp_path):
    """What is found about a handler in `h.py`: finding({"h.py": ...})."""

    def finding(files, handler="h.py", **options):
        for name, content in files.items():
            path = tmp_path / "src" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return probe(handler, {name: tmp_path / "src" / name for name in files}, **options)

    return finding


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        ("h.py", HANDLE),
        ("h", HANDLE),
        ("h.py:other", HANDLE.replace("handle", "other")),
        ("h", "class H:\n    def handle(self, data, context): pass\n"),
        ("h", "from ts.torch_handler.contractions import *\nhandle = print\n"),
    ],
)
def test_nothing_is_found_about_what_a_server_can_call(finding, handler, code):
    assert finding({"h.py": code}, handler) is None


def test_the_archives_own_files_come_first(finding):
    # Given modules of the model whose names others have too
    files = {"h.py": "import archive, json, sub.part\nhandle = archive.mine\n", "archive.py": "mine = 1\n"}
    assert finding({**files, "sub/part.py": ""}) is None


def test_the_archives_other_files_are_where_the_handler_looks_for_them(finding):
    code = f"from pathlib import Path\nPath(__file__).with_name('labels.txt').read_text()\n{HANDLE}"
    assert finding({"h.py": code, "labels.txt": "a"}) is None


def test_a_missing_package_is_named_with_the_line_that_needs_it(finding):
    found = finding({"h.py": "import os\nimport no_such_package.part\n"})
    assert found.cause == "h.py, line 2: no module named 'no_such_package'"
    assert found.missing_module == "no_such_package"
    assert "--extra-files" in found.advice
    assert "--requirements-file" in found.advice


def test_a_missing_package_of_another_file_is_placed_there(finding):
    found = finding({"h.py": f"import part\n{HANDLE}", "part.py": "import no_such_package\n"})
    assert found.cause.startswith("part.py, line 1: ")


def test_a_syntax_error_is_placed(finding):
    found = finding({"h.py": "def handle(:\n"})
    assert found.cause == "h.py, line 1: invalid syntax"
    assert found.missing_module == ""


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("x = 1\nraise KeyError('k')\n", "h.py, line 2: KeyError: 'k'"),
        ("from json import nothing\n", "h.py, line 1: ImportError: cannot import name 'nothing' from 'json'"),
        ("import sys\nsys.exit()\n", "h.py, line 2: SystemExit"),
        ("import os\nos._exit(3)\n", "the process that imported 'h.py' ended with code 3"),
        (
            "import os\nos.kill(os.getpid(), 9)\n",
            "the process that imported 'h.py' was killed by signal 9",
        ),
        ("x = 1\n", "h has neither a function 'handle' nor one handler class, but no class"),
        (
            "class B: pass\nclass A: pass\n",
            "h has neither a function 'handle' nor one handler class, but A, B",
        ),
    ],
)
def test_other_causes(finding, code, cause):
    found = finding({"h.py": code})
    assert found.cause.startswith(cause)
    assert found.advice.endswith(".")


def test_a_handler_that_takes_too_long_is_ended_with_what_it_started(finding, tmp_path):
    # Given a handler that starts a process and never returns
    pid = tmp_path / "pid"
    code = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '100'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(100)\n"
    )
    # When it is tried for a moment
    found = finding({"h.py": code}, timeout_s=1.0)
    # Then both are gone
    assert found.cause == "importing 'h.py' took longer than 1 s"
    deadline = time.monotonic() + 60
    while _runs(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_default_handler_is_imported_from_where_it_is(finding):
    assert finding({}, "no_such_default").missing_module == "ts.torch_handler.no_such_default"


def test_the_files_of_the_model_are_left_alone(finding, tmp_path):
    finding({"h.py": "open('h.py', 'w').write('')\nopen('new', 'w')\n" + HANDLE, "w.pt": "weights"})
    assert sorted(path.name for path in (tmp_path / "src").iterdir()) == ["h.py", "w.pt"]
    assert (tmp_path / "src/h.py").stat().st_size > 0


def _runs(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
