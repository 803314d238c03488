"""One node process: `python -m workers.node`."""

import os
import signal
import socket

from marq import logs
from marq.host.processes import die_with_parent
from marq.settings import loading
from workers.node.reconciler import Node


def main() -> None:
    supervised = die_with_parent()
    config = loading.load()
    logs.configure("node", config.log_dir)
    node = Node(config, os.environ.get("MARQ_NODE") or socket.gethostname())
    signal.signal(signal.SIGTERM, node.stop_soon)
    if not supervised:
        signal.signal(signal.SIGINT, node.stop_soon)
    node.run()


if __name__ == "__main__":
    main()
