"""The file through which clients and commands find the server on this host; `marq start` writes it."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from marq.errors import MarqError
from marq.settings.retention import SETTINGS_PREFIX
from marq.settings.state_dir import default_state_dir

FILE_NAME = "server.json"
LOCAL_TOKEN_VARIABLE = f"{SETTINGS_PREFIX}LOCAL_TOKEN"  # gives gateways the token of this host's commands
REDIS_VARIABLE, STATE_VARIABLE = f"{SETTINGS_PREFIX}REDIS_URL", f"{SETTINGS_PREFIX}STATE_DIR"


class ServerNotFound(MarqError):
    """Raised when no server runs here and no address is given."""


@dataclass(frozen=True)
class Server:
    """A running server. Holds secrets: its file is readable by the user alone."""

    pid: int
    redis_url: str
    inference_address: str
    management_address: str
    metrics_address: str = ""  # empty: there is none
    token: str = ""  # good for all planes; empty: none is needed
    certificate: str = ""  # the file of the certificate that https addresses answer with
    log_dir: str = ""


def state_dir(given: Path | None = None) -> Path:
    """The state directory: given, `MARQ_STATE_DIR`, or the user's default."""
    return given or Path(os.environ.get(STATE_VARIABLE) or default_state_dir())


def write(directory: Path, server: Server) -> None:
    path = directory / FILE_NAME
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(asdict(server), indent=2))


def remove(directory: Path) -> None:
    (directory / FILE_NAME).unlink(missing_ok=True)


def find(directory: Path | None = None) -> Server:
    """The server of this state directory. Raises ServerNotFound."""
    path = state_dir(directory) / FILE_NAME
    try:
        server = Server(**json.loads(path.read_text()))
        os.kill(server.pid, 0)
    except (OSError, ValueError, TypeError):
        raise ServerNotFound(
            f"No marq server runs with the state directory {path.parent}. "
            "Start one with `marq start`, or name another directory with --state-dir or MARQ_STATE_DIR."
        ) from None
    return server


def redis_url() -> str:
    """The Redis URL for clients: `MARQ_REDIS_URL`, or the server on this host. Raises ServerNotFound."""
    return os.environ.get(REDIS_VARIABLE) or find().redis_url
