"""The packages that a model requires: installed once for each host and set of requirements.

A set lies in `root/<digest>/`, which appears complete or not at all: in `packages`, for `sys.path`, or in
`venv`, if the model wants an environment of its own.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import logging
import os
import secrets
import shutil
import site
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from marq.registry.spec import ModelSpec
from workers.node.commands import CommandFailed, LoggedCommands, without_credentials
from workers.node.requirements import fingerprint

PIP_FAILED = "Custom pip package installation failed for model"
VENV_FAILED = "Virtual environment creation failed for model"
MARKER = "requirements.txt"
# Ends a program that hangs. Downloads may be large; pip itself has a time-out for servers.
INSTALL_S = 3600.0
_STAGING = ".install-"
_INHERITED = "inherited-site-packages.pth"


class InstallationFailed(Exception):
    """Raised when packages cannot be installed; its text is for clients: TorchServe's, then the reason."""


@dataclass(frozen=True)
class Installed:
    """One set of dependencies on this host, as replicas find it."""

    path: Path
    python: str = sys.executable
    directory: str = ""  # comes behind the model directory on `sys.path`


@dataclass(frozen=True)
class _Order:
    """An installation: the requirements and the model that has them."""

    spec: ModelSpec
    model_dir: Path
    requirements: Path | None
    label: str


class Dependencies:
    """All sets below one directory. Threads and processes may share it."""

    def __init__(self, root: Path, model_log: logging.Logger) -> None:
        self._root, self._log = root.absolute(), model_log
        self._commands = LoggedCommands(model_log)

    def install(self, spec: ModelSpec, model_dir: Path, label: str) -> Installed:
        """Installs the requirements of a model, unless they are installed. Raises InstallationFailed.

        The output goes to the model log, line by line, behind `label`.
        """
        model_dir = model_dir.absolute()  # installers run there
        requirements = model_dir / spec.requirements if spec.requirements else None
        if requirements and not requirements.is_file():
            raise InstallationFailed(
                f"{PIP_FAILED} {spec.name}\n"
                f"The manifest names {spec.requirements!r}, which is not in the archive."
            )
        try:
            final = self._install_once(_Order(spec, model_dir, requirements, label))
        except OSError as error:
            raise InstallationFailed(f"{PIP_FAILED} {spec.name}\n{error}") from error
        if spec.use_venv:
            return Installed(final, python=str(_python(final)))
        return Installed(final, directory=str(final / "packages"))

    def stop(self) -> None:
        """Ends the installations that run; they fail, and so do later ones."""
        self._commands.stop()

    def _install_once(self, order: _Order) -> Path:
        final = self._root / _digest(order)
        with _locked(self._root / "locks" / final.name):
            if final.is_dir():
                os.utime(final)  # the time of its last use
                self._log.info("[%s] dependencies are already installed: %s", order.label, final)
            else:
                self._install_to(final, order)
        return final

    def _install_to(self, final: Path, order: _Order) -> None:
        staging = final.with_name(f"{_STAGING}{secrets.token_hex(8)}")
        staging.mkdir(mode=0o755)
        try:
            if order.spec.use_venv:
                self._make_venv(staging, order)
                _relocate(staging, final)
            else:
                self._install_packages(staging / "packages", order)
            text = order.requirements.read_text(errors="replace") if order.requirements else ""
            (staging / MARKER).write_text(without_credentials(text))
            staging.rename(final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _install_packages(self, target: Path, order: _Order) -> None:
        if uv := shutil.which("uv"):
            command = [uv, "pip", "install", "--no-progress", "--python", sys.executable]
            command += ["--target", str(target)]
        else:
            command = _pip(sys.executable, "-U", "-t", str(target))
        target.mkdir()  # pip makes none if it installs no package
        self._run(PIP_FAILED, [*command, "-r", str(order.requirements)], order)

    def _make_venv(self, staging: Path, order: _Order) -> None:
        """Always with pip: uv would not see that the server's own packages need not be installed again."""
        without_pip = ["--without-pip"] if importlib.util.find_spec("pip") else []
        command = [sys.executable, "-P", "-m", "venv", *without_pip, str(staging / "venv")]
        self._run(VENV_FAILED, command, order)
        _inherit(staging / "venv")
        if order.requirements:
            options = ("-U", "--upgrade-strategy", "only-if-needed", "-r", str(order.requirements))
            self._run(PIP_FAILED, _pip(str(_python(staging)), *options), order)

    def _run(self, title: str, command: list[str], order: _Order) -> None:
        """Runs in the model directory: relative paths in requirements start there."""
        try:
            self._commands.run(command, order.model_dir, order.label, INSTALL_S)
        except CommandFailed as error:
            raise InstallationFailed(f"{title} {order.spec.name}\n{error}") from error


def _digest(order: _Order) -> str:
    """Sets are shared only where their content, the interpreter and the way to install them are the same."""
    content = fingerprint(order.requirements, order.model_dir) if order.requirements else ""
    mode = "venv" if order.spec.use_venv else "packages"
    parts = (mode, sys.executable, sys.version, sysconfig.get_platform(), content)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _pip(python: str, *options: str) -> list[str]:
    # -P: no module of the model directory shadows one that pip imports
    command = [python, "-P", "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    return [*command, "--progress-bar", "off", *options]


def _python(directory: Path) -> Path:
    return directory / "venv/bin/python"


def _inherit(venv: Path) -> None:
    """Makes the packages of this interpreter's environment visible behind the venv's own.

    With `addsitedir`, and not as a path: then .pth files count there, too, as editable installations need.
    """
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    (own,) = venv.glob("lib/python*/site-packages")
    (own / _INHERITED).write_text(
        "".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders)
    )


def _relocate(staging: Path, final: Path) -> None:
    """Scripts of a venv name its interpreter by its path, which is about to change."""
    for path in (staging / "venv/pyvenv.cfg", *(staging / "venv/bin").iterdir()):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            path.write_bytes(content.replace(os.fsencode(staging), os.fsencode(final)))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One installation of a set at a time; the next caller finds the set installed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
