"""The name of this host's node, and the lease that keeps it from being used twice."""

import contextlib
import fcntl
import hashlib
import logging
import os
import socket
import time
from pathlib import Path

from marq import keys
from marq.connections.commands import RedisClient
from marq.errors import MarqError
from marq.registry.name_lease import NameLease, Owner

log = logging.getLogger(__name__)

NAME_VARIABLE = "MARQ_NODE"
MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
POLL_S = 0.2


class NameTaken(MarqError):
    """Raised when another live node has the name."""


def node_name(state_dir: Path) -> str:
    """`MARQ_NODE`, or the host's name with a suffix that differs by machine and by state directory.

    Cloned machines keep the name of their host, but not the id of their machine.
    """
    if given := os.environ.get(NAME_VARIABLE):
        return given
    place = f"{_first_text(MACHINE_IDS)} {state_dir.absolute()}"
    return f"{socket.gethostname()}-{hashlib.sha256(place.encode()).hexdigest()[:6]}"


class NodeLease:
    """The lease of a node's name.

    Its token is kept in the state directory: a node that is started again after a crash takes up its own
    lease at once. A lock on that file shows that the one before has ended; a copy of the directory on
    another machine does not count, as the file names the start of the machine's kernel.
    """

    def __init__(self, client: RedisClient, name: str, state_dir: Path) -> None:
        """Raises NameTaken if a live node has this name and state directory."""
        self._client, self._name = client, name
        file_name = hashlib.sha256(name.encode()).hexdigest()[:16]
        path = state_dir / "run" / f"node-{file_name}.lease"
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError):
                raise self._taken_by(self._stored()[1]) from None
            raise NameTaken(f'A node named "{name}" runs already with this state directory.') from None
        self._lease = NameLease(client, keys.node_owner(name), self._restored())
        self._write()
        self._is_held = False

    @property
    def owner(self) -> Owner:
        return self._lease.owner

    def hold(self) -> None:
        """Takes or renews the name. Raises redis.RedisError, or NameTaken if another live node has it.

        The first call waits for the end of a lease that its owner does not renew.
        """
        while found := self._lease.hold():
            if self._is_held:
                raise self._taken_by(found.owner)
            log.info(
                'waiting for the lease of the node name "%s", which %s has', self._name, found.owner.shown
            )
            before = found
            while (found := self._lease.hold()) and not found.was_renewed_since(before):
                before = found
                time.sleep(POLL_S)
            if found:
                raise self._taken_by(found.owner)
        self._is_held = True

    def close(self) -> None:
        """Lets another process of this host go on with the lease."""
        self._file.close()

    def release(self) -> None:
        """Gives the name back. Raises redis.RedisError."""
        self._lease.release()

    def _taken_by(self, owner: Owner) -> NameTaken:
        return NameTaken(
            f'A node named "{self._name}" runs already: {owner.shown}. '
            f"Give this one another name: {NAME_VARIABLE}, or marq node --name."
        )

    def _stored(self) -> tuple[str, Owner]:
        """The boot that the file was written in, and the owner. Raises ValueError."""
        self._file.seek(0)
        boot, _, owner = self._file.read().partition("\n")
        return boot, Owner.parse(owner)

    def _restored(self) -> Owner:
        """This process with the token of its predecessor, if that ended on this machine."""
        with contextlib.suppress(ValueError):
            boot, owner = self._stored()
            if boot == _first_text([BOOT_ID]):
                return Owner.this_process(owner.token)
        return Owner.this_process()

    def _write(self) -> None:
        self._file.truncate(0)
        self._file.write(f"{_first_text([BOOT_ID])}\n{self._lease.owner}")
        self._file.flush()


def _first_text(paths: tuple[Path, ...] | list[Path]) -> str:
    """The text of the first file that has one."""
    for path in paths:
        with contextlib.suppress(OSError):
            if text := path.read_text().strip():
                return text
    return ""
