"""The processes of one replica that share a model: rank 0 is the replica, and starts the others.

They get the variables that torchrun sets on one host, so a handler calls `init_process_group` as there. Each
batch goes to all ranks, or with `parallelType: pp` to rank 0 alone; rank 0's result is the answer. The end of
one rank ends the replica, whose pool starts another group.
"""

import logging
import os
import pickle
import select
import socket
import struct
import subprocess
import sys
import threading
from typing import TypedDict

from marq.host.processes import child_environment
from ts.context import Context, RequestProcessor
from workers.handler.call import Handle
from workers.handler.rows import Row
from workers.launch import ReplicaSpec

log = logging.getLogger(__name__)

SOCKET_VARIABLE = "MARQ_RANK_SOCKET"  # the number of the file through which a rank gets its batches
LOADED = b"1"
_LENGTH = struct.Struct("!Q")
HOST = "127.0.0.1"
ENDS_WITHIN_MS = 500  # after its first connection was closed


class ContextState(TypedDict):
    """The part of a context that changes with each batch."""

    ids: dict[int, str] | None
    processors: list[RequestProcessor]


class Ranks:
    """The other ranks, as rank 0 sees them."""

    def __init__(self, spec: ReplicaSpec) -> None:
        """Starts them, and makes this process rank 0; in the main thread, before the handler is loaded."""
        model = spec.pool.model
        self._to_all = model.parallel_type != "pp"
        common = _variables(spec)
        self._sockets: list[socket.socket] = []
        self._processes = [self._start(spec, common, rank) for rank in range(1, model.ranks)]
        os.environ.update(common, **_of_rank(0))
        for process in self._processes:
            threading.Thread(target=_end_with, args=(process,), name="rank-end", daemon=True).start()

    def wait_until_loaded(self) -> None:
        """Returns when every rank has loaded the handler. One that cannot ends this process."""
        for each in self._sockets:
            if each.recv(1) != LOADED:
                threading.Event().wait()  # the thread that watches it ends this process

    def shared(self, handle: Handle) -> Handle:
        """The handler's function for batches; each call runs on all ranks that take part.

        When a rank ends meanwhile, a call does not return: this process ends, and the rows run again.
        """

        def run(data: list[Row], context: Context) -> object:
            try:
                if self._to_all:
                    self._send(pickle.dumps((data, _state(context))))
                return handle(data, context)
            except Exception:
                if self._one_has_ended():
                    threading.Event().wait()  # the thread that watches it ends this process
                raise

        return run

    def _send(self, message: bytes) -> None:
        for each in self._sockets:
            each.sendall(_LENGTH.pack(len(message)) + message)

    def _one_has_ended(self) -> bool:
        """Whether a rank has closed its socket. Its connections to rank 0 may end a moment before that."""
        poller = select.poll()
        for each in self._sockets:
            poller.register(each, 0)  # the end of the other side is reported in any case
        return bool(poller.poll(ENDS_WITHIN_MS))

    def _start(self, spec: ReplicaSpec, common: dict[str, str], rank: int) -> subprocess.Popen[bytes]:
        ours, theirs = socket.socketpair()
        self._sockets.append(ours)
        own = {**_of_rank(rank), SOCKET_VARIABLE: str(theirs.fileno())}
        with theirs:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "workers.group"],
                env=child_environment(spec.to_environment(), common, own),
                stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),),
            )  # fmt: skip


def receive(source: socket.socket) -> tuple[list[Row], ContextState] | None:
    """The next batch for a rank, and the state of its context; None when rank 0 has ended."""
    if not (head := _read(source, _LENGTH.size)):
        return None
    message = _read(source, _LENGTH.unpack(head)[0])
    return pickle.loads(message) if message else None  # noqa: S301 - from rank 0, which started this process


def apply(context: Context, state: ContextState) -> None:
    """Makes the context of this rank that of rank 0's batch."""
    context.request_ids = state["ids"]
    context.request_processor = state["processors"]
    context.metrics.request_ids = state["ids"]


def _state(context: Context) -> ContextState:
    return {"ids": context.request_ids, "processors": context.request_processor}


def _read(source: socket.socket, size: int) -> bytes:
    """Empty when the other side has ended."""
    parts = bytearray()
    while len(parts) < size:
        if not (part := source.recv(min(size - len(parts), 1 << 20))):
            return b""
        parts += part
    return bytes(parts)


def _variables(spec: ReplicaSpec) -> dict[str, str]:
    """torchrun's variables that are the same for all ranks."""
    model = spec.pool.model
    return {
        "WORLD_SIZE": str(model.ranks), "LOCAL_WORLD_SIZE": str(model.ranks), "GROUP_RANK": "0",
        "GROUP_WORLD_SIZE": "1", "ROLE_NAME": "default", "ROLE_WORLD_SIZE": str(model.ranks),
        "MASTER_ADDR": HOST, "MASTER_PORT": str(_free_port()), "TORCHELASTIC_RUN_ID": spec.pool.name,
        "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_MAX_RESTARTS": "0",
        "OMP_NUM_THREADS": str(model.rank_threads),
    }  # fmt: skip


def _of_rank(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "ROLE_RANK": str(rank)}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


def _end_with(process: "subprocess.Popen[bytes]") -> None:
    """Ends this process when a rank has ended: it could answer no further batch."""
    code = process.wait()
    cause = f"signal {-code}" if code < 0 else f"exit code {code}"
    log.error("a rank (pid %d) of this replica has ended with %s: the replica ends", process.pid, cause)
    for handler in logging.getLogger().handlers:
        handler.flush()
    os._exit(1)
