"""The file through which clients and commands find the server on this host; `marq start` writes it."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from marq.errors import MarqError
from marq.settings.retention import SETTINGS_PREFIX
from marq.settings.state_dir import default_state_dir

if TYPE_CHECKING:
    from marq.settings.loading import Resolved

FILE_NAME = "server.json"
NODE_FILE_NAME = "node.json"
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
    key_file: str = ""  # of tokens that end with this server; `marq stop` removes it
    runs_node: bool = True  # else its host has gateways alone
    settings: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)  # of those that are not left at their defaults

    def resolved(self) -> "Resolved | None":
        """The settings that it was started with; None if an older marq has written the file."""
        if not self.settings:
            return None
        from marq.settings.fields import Settings  # clients, which read this file, too, need no pydantic
        from marq.settings.loading import Resolved

        known = {**self.settings, "redis_url": self.redis_url}
        return Resolved(Settings.model_validate(known), self.sources, [], [])


@dataclass(frozen=True)
class Node:
    """A node that `marq node` runs."""

    pid: int
    redis_url: str
    name: str
    log_dir: str


def state_dir(given: Path | None = None) -> Path:
    """The state directory: given, `MARQ_STATE_DIR`, or the user's default."""
    return given or Path(os.environ.get(STATE_VARIABLE) or default_state_dir())


def write(directory: Path, server: Server) -> None:
    _write(directory / FILE_NAME, server)


def write_node(directory: Path, node: Node) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(directory / NODE_FILE_NAME, node)


def _write(path: Path, content: Server | Node) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(json.dumps(asdict(content), indent=2))


def remove(directory: Path) -> None:
    (directory / FILE_NAME).unlink(missing_ok=True)


def find(directory: Path | None = None) -> Server:
    """The server of this state directory. Raises ServerNotFound."""
    path = state_dir(directory) / FILE_NAME
    try:
        server = Server(**json.loads(path.read_text()))
        os.kill(server.pid, 0)
    except (OSError, ValueError, TypeError):
        cure = "Start one with `marq start`, or name another directory with --state-dir or MARQ_STATE_DIR."
        if node := find_node(directory):
            cure = f"Only the node {node.name} does: give the address of a gateway with --url."
        text = f"No marq server runs with the state directory {path.parent}. {cure}"
        raise ServerNotFound(text) from None
    return server


def find_node(directory: Path | None = None) -> Node | None:
    """The node of this state directory, if there is one."""
    try:
        node = Node(**json.loads((state_dir(directory) / NODE_FILE_NAME).read_text()))
        os.kill(node.pid, 0)
    except (OSError, ValueError, TypeError):
        return None
    return node


def redis_url() -> str:
    """The Redis URL for clients: `MARQ_REDIS_URL`, or the server on this host. Raises ServerNotFound."""
    return os.environ.get(REDIS_VARIABLE) or find().redis_url
