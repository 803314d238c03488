"""One node process: `python -m workers.node`."""

import logging
import signal
import sys

from marq import logs
from marq.host.node_name import NameTaken, node_name
from marq.host.processes import die_with_parent
from marq.settings import inherited
from workers.node.interrupts import Interrupts
from workers.node.reconciler import Node

log = logging.getLogger("workers.node")  # not "__main__"


def main() -> None:
    supervised = die_with_parent()
    config = inherited.load()
    logs.configure("node", config.log_dir)
    try:
        node = Node(config, node_name(config.state_dir))
        if supervised:
            signal.signal(signal.SIGTERM, node.stop_soon)
        else:
            interrupts = Interrupts(node.stop_soon)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, interrupts)
        node.run()
    except NameTaken as error:
        log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
