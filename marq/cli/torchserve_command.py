"""The `torchserve` command: TorchServe's flags, messages and exit codes, in front of marq's server."""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import psutil

from marq.errors import MarqError
from marq.host import processes, server_file, stop_limit
from marq.host.watcher import MODEL_SERVER
from marq.settings import loading, properties, snapshot_files
from marq.settings.sources import LOG_VARIABLE
from marq.settings.state_dir import is_writable
from ts.version import __version__

PID_FILE = ".model_server.pid"
KEY_FILE = "key_file.json"
STOP_TIMEOUT_S = 60  # beyond what gateways and pools may take
LOGS = Path("logs")  # as in TorchServe, unless LOG_LOCATION names another directory
# Words in the command line of a server; the last one is of TorchServe's own.
MARKS = frozenset(("marq.host.watcher", "marq.cli.torchserve", "torchserve", MODEL_SERVER))
WITHOUT_EFFECT = ("log_config", "cpp_log_config")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Ends the process with TorchServe's exit codes."""
    options = parser().parse_args(arguments)
    given = list(sys.argv[1:] if arguments is None else arguments)
    if options.version:
        _say(f"TorchServe Version is {__version__}")
        sys.exit(0)
    try:
        if options.stop:
            _note_idle_flags(options)
            stop(options.foreground)
        start(options, given)
    except OSError as error:
        _fail(str(error))


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="torchserve", description="Torchserve")
    command = made.add_mutually_exclusive_group()
    command.add_argument("-v", "--version", action="store_true", help="Print TorchServe's version")
    command.add_argument("--start", action="store_true", help="Start the server")
    command.add_argument("--stop", action="store_true", help="Stop the server")
    made.add_argument("--ts-config", metavar="FILE", help="The config.properties to use")
    made.add_argument("--model-store", metavar="DIR", help="Directory of the model archives; mandatory")
    made.add_argument("--workflow-store", metavar="DIR", help="Workflow archives; default: the model store")
    made.add_argument(
        "--models", metavar="[NAME=]FILE", nargs="+", help="Archives to load: files or URLs; all: the store"
    )
    made.add_argument("--log-config", metavar="FILE", help="No effect: see MARQ_LOG_FORMAT")
    made.add_argument("--cpp-log-config", metavar="FILE", help="No effect: marq does not have a C++ backend")
    made.add_argument("--foreground", action="store_true", help="Stay in the foreground; --stop waits")
    made.add_argument(
        "--no-config-snapshots",
        "--ncs",
        action="store_true",
        help="Write and use no snapshots; forget the models that were registered over HTTP",
    )
    made.add_argument(
        "--plugins-path", "--ppath", metavar="DIR", help="Directories of plugins: Python packages, not jars"
    )
    made.add_argument(
        "--disable-token-auth", "--dt", action="store_true", help="Answer requests without a token"
    )
    made.add_argument(
        "--enable-model-api", action="store_true", help="Allow registering and unregistering models over HTTP"
    )
    made.add_argument(
        "--strict", action="store_true", help="Do not start if a line of the config.properties has no effect"
    )
    return made


def start(options: argparse.Namespace, given: Sequence[str]) -> NoReturn:
    """Starts a server in the background; with `--foreground` it never returns."""
    if (pid := _running_pid()) and pid != os.getpid():
        _fail("TorchServe is already running, please use torchserve --stop to stop TorchServe.")
    from marq.host import supervisor  # imported here, because `--stop` does not need it

    try:
        resolved = _resolve(options)
        if not options.foreground:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-X",
                    MODEL_SERVER,
                    "-m",
                    "marq.cli.torchserve",
                    *given,
                    "--foreground",
                ],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
            _pid_file().write_text(str(child.pid))
            sys.exit(0)
        _pid_file().write_text(str(os.getpid()))
        sys._xoptions[MODEL_SERVER] = True  # as if given, so that the watcher carries it
        supervisor.start(resolved, _say)
    except MarqError as error:
        _fail(str(error))


def _resolve(options: argparse.Namespace) -> loading.Resolved:
    """Makes TorchServe's checks, with its messages. Raises SettingsError."""
    if (temp := os.environ.get("TEMP")) and not Path(temp).is_dir():
        _fail(f"Invalid temp directory: {temp}, please check TEMP environment variable.")
    for flag in ("log_config", "cpp_log_config"):
        _check(flag, "file", getattr(options, flag), Path.is_file)
    logs = LOGS.resolve() if is_writable(LOGS.resolve()) else server_file.state_dir() / LOGS
    environ = {LOG_VARIABLE: str(logs), **os.environ}
    folder = Path(environ[LOG_VARIABLE]) / snapshot_files.FOLDER
    found = None if _refuses_snapshots(options) else snapshot_files.newest(folder)
    given_file = Path(options.ts_config) if options.ts_config else None
    file = found.config if found else properties.discover(given_file)
    for flag in ("model_store", "workflow_store"):
        _check(flag, "directory", getattr(options, flag), Path.is_dir)
    resolved = loading.resolve(file, _given(options, found), environ)
    if resolved.settings.model_store is None:
        _fail("Missing mandatory parameter --model-store")
    _check("model_store", "directory", str(resolved.settings.model_store), Path.is_dir)
    flags = [f"--{flag.replace('_', '-')}" for flag in WITHOUT_EFFECT if getattr(options, flag)]
    resolved.without_effect.extend(f"{flag} has no effect." for flag in flags)
    if logs != LOGS.resolve() and LOG_VARIABLE not in os.environ:
        resolved.notices.append(f"{LOGS.resolve()} cannot be written: logs go to {logs}.")
    resolved.notices.extend(properties.ignored(given_file))
    if found:
        resolved.notices.append(found.notice)
    if options.no_config_snapshots:
        return resolved
    store, models = str(resolved.settings.model_store), ",".join(options.models or ()) or None
    keys = snapshot_files.written_properties(file, {"model_store": store, "load_models": models})
    snapshots = snapshot_files.Snapshots(str(folder), keys, found.models if found else None)
    return replace(resolved, snapshots=snapshots)


def _refuses_snapshots(options: argparse.Namespace) -> bool:
    """Whether the user names another file, or wants no snapshots."""
    variable = os.environ.get(properties.FILE_VARIABLE)
    return bool(variable or options.ts_config or options.no_config_snapshots)


def _given(options: argparse.Namespace, found: snapshot_files.Found | None) -> dict[str, object]:
    """The settings that the command line gives. Models of a snapshot are registered later, where missing."""
    models = ",".join(options.models) if options.models else None
    return {
        "model_store": Path(options.model_store).resolve() if options.model_store else None,
        "workflow_store": Path(options.workflow_store).resolve() if options.workflow_store else None,
        "models": models or ("" if found and found.config == found.path else None),
        "model_snapshot": "" if found else None,
        "plugins_path": options.plugins_path,
        "forget_models": options.no_config_snapshots or None,
        "disable_token_auth": options.disable_token_auth or None,
        "enable_model_api": options.enable_model_api or None,
        "strict_config": options.strict or None,
    }


def _check(flag: str, what: str, given: str | None, exists: Callable[[Path], bool]) -> None:
    if given and not exists(Path(given)):
        _fail(f"--{flag.replace('_', '-')} {what} not found: {given}")


def _note_idle_flags(options: argparse.Namespace) -> None:
    """Says on stderr which flags a stop does not use: scripts read TorchServe's lines on stdout."""
    for name, value in vars(options).items():
        if value and name not in ("stop", "foreground"):
            sys.stderr.write(f"--{name.replace('_', '-')} has no effect with --stop.\n")


def stop(wait: bool) -> NoReturn:
    """Stops the server; running requests finish. Exit code 0 in any case, as in TorchServe."""
    Path(KEY_FILE).unlink(missing_ok=True)
    pid = _running_pid()
    if pid is None:
        _say("TorchServe is not currently running.")
        sys.exit(0)
    try:
        limit_s = stop_limit.read(server_file.state_dir())
        ended = processes.end(psutil.Process(pid), 2 * limit_s + STOP_TIMEOUT_S)
    except psutil.NoSuchProcess:
        _say("TorchServe already stopped.")
        ended = True
    else:
        if not ended:
            _say("Stopping TorchServe took too long.")
        elif not wait:
            _say("TorchServe has stopped.")
    if ended:
        _pid_file().unlink(missing_ok=True)
    sys.exit(0)


def _pid_file() -> Path:
    return Path(tempfile.gettempdir()) / PID_FILE


def _running_pid() -> int | None:
    """The server of the pid file; the file of a process that has ended is removed."""
    path = _pid_file()
    if not path.exists():
        return None
    with contextlib.suppress(ValueError, OSError, psutil.Error):
        pid = int(path.read_text())
        if any(Path(word).name in MARKS for word in psutil.Process(pid).cmdline()):
            return pid
    _say("Removing orphan pid file.")
    path.unlink(missing_ok=True)
    return None


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _fail(message: str) -> NoReturn:
    _say(message)
    sys.exit(1)
