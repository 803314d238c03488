"""What the tests of both archivers use: files to pack, and the command lines."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

FILES = {
    "h.py": "def handle(data, context): return data\n",
    "other.py": "pass\n",
    "net.py": "class Net: pass\n",
    "weights.pt": "weights",
    "reqs.in": "einops\n",
    "conf.yml": "batchSize: 2\n",
    "flow.yaml": "dag: {}\n",
    "labels.json": "{}",
    "lib.so": "library",
    "extra/a.txt": "a",
    "extra/.hidden": "kept",
    "extra/old.pyc": "kept",
    "extra/sub/b.txt": "b",
    "extra/.git/config": "dropped",
    "extra/__pycache__/a.pyc": "dropped",
    "extra/__MACOSX/x": "dropped",
}


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with everything that is packed here."""
    folder = tmp_path / "src"
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "extra/empty").mkdir()
    (folder / "out").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    return folder


@dataclass(frozen=True)
class Answer:
    """How a command ended."""

    code: int
    error: BaseException | None
    stderr: str
    log: list[str]


@pytest.fixture
def in_process(monkeypatch, capsys, caplog) -> Callable[..., Answer]:
    """Runs an entry point as its console script would: in_process(main, "--model-name", "m")."""

    def run(main: Callable[[], None], *arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["archiver", *arguments])
        caplog.clear()
        code, error = 0, None
        try:
            main()
        except SystemExit as end:
            code = end.code
        except Exception as caught:
            code, error = 1, caught
        written = capsys.readouterr()
        assert written.out == "" or "--help" in arguments
        log = [f"{record.levelname} - {record.getMessage()}" for record in caplog.records]
        return Answer(code, error, written.err + written.out, log)

    return run


@pytest.fixture
def script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs an installed console script: script("torch-model-archiver", "--help")."""

    def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name(name)
        return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)

    return run
