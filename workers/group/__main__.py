"""A rank above 0 of a replica: `python -m workers.group`, started by rank 0."""

import logging
import os
import signal
import socket
import sys

from marq.host.processes import die_with_parent
from workers.group import ranks
from workers.handler import log_lines, traces
from workers.handler.loader import load_handler
from workers.handler.measurements import Collector
from workers.handler.parts import PartStream
from workers.launch import ReplicaSpec

log = logging.getLogger(__name__)


class NoParts:
    """Parts of answers come from rank 0 alone."""

    def send(self, answers: object, /) -> None: ...
    def report(self, reports: object, /) -> None: ...
    def find_gone(self, requests: object, gone: object, /) -> None: ...


class _Silent(PartStream):
    """`context.cl_socket` of this rank."""

    def __init__(self) -> None:
        super().__init__([], [], NoParts())

    def stream(self, *_: object) -> None:
        """Does nothing."""

    def report_progress(self, *_: object) -> None:
        """Does nothing."""


def main() -> None:
    die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # rank 0 drains, and this rank ends with it
    sys.excepthook = traces.show_uncaught
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(log_lines.MarkedFormatter(f"[rank {os.environ['RANK']}] %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    spec = ReplicaSpec.from_environment()
    with socket.socket(fileno=int(os.environ.pop(ranks.SOCKET_VARIABLE))) as source:
        handle, context = load_handler(spec, Collector(spec.pool.model))
        context.cl_socket = _Silent()
        source.sendall(ranks.LOADED)
        while batch := ranks.receive(source):
            data, state = batch
            ranks.apply(context, state)
            try:
                handle(data, context)
            except Exception:
                log.exception("the handler has failed; the answer is rank 0's")
    os._exit(0)  # threads and connections of the handler may wait for rank 0


if __name__ == "__main__":
    main()
