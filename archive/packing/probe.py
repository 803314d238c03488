"""Tries, before an archive is packed, whether the server will be able to import its handler."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from archive.errors import PackagingError
from archive.packing.collect import Files
from archive.packing.extra_files import extra_files, unpack

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Finding:
    """Why the handler cannot be imported, and the remedy.

    `missing_module` is set if a package is not installed here, which says nothing about the server.
    """

    cause: str
    advice: str
    missing_module: str = ""


def probe(handler: str, files: Files, config_file: str = "", timeout_s: float = TIMEOUT_S) -> Finding | None:
    """Imports the handler in a process of its own, which finds the archive's files first; None if it can.

    `handler` is the manifest's, `files` are the planned members, `config_file` is the model-config.yaml.
    Raises PackagingError if the files cannot be laid out for it.
    """
    extra = extra_files(Path(config_file)) if config_file else ""
    with tempfile.TemporaryDirectory(prefix="marq-archive-", ignore_cleanup_errors=True) as folder:
        model, report = Path(folder, "model"), Path(folder, "report.json")
        try:
            _lay_out(files, model)
            if extra in files:
                unpack(files[extra], model)
        except OSError as error:
            raise PackagingError(f"The handler cannot be checked: {error}") from error
        return _run(handler, model, report, timeout_s)


def _lay_out(files: Files, model: Path) -> None:
    """Python files are copied, so that they find each other through their own place; weights are linked."""
    model.mkdir()
    for name, path in files.items():
        place = model / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".py":
            shutil.copyfile(path, place)
        else:
            place.symlink_to(path.resolve())


def _run(handler: str, model: Path, report: Path, timeout_s: float) -> Finding | None:
    child = subprocess.Popen(
        # -P: only the child decides what is on the path before the installed packages.
        [sys.executable, "-P", "-m", "archive.packing.probe_child", handler, str(model), str(report)],
        cwd=model,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        code = child.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return Finding(
            f"importing {handler!r} took longer than {timeout_s:g} s",
            "Move slow work from the module into the handler's initialize().",
        )
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)  # with processes that the handler has started
            child.wait()
    return _finding(handler, report, code)


def _finding(handler: str, report: Path, code: int) -> Finding | None:
    if not report.exists():
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return Finding(
            f"the process that imported {handler!r} {how}", "A module must not end its process on import."
        )
    found = json.loads(report.read_text())
    return Finding(**found) if found else None
