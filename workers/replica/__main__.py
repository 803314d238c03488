"""One replica process: `python -m workers.replica`."""

import asyncio
import gc
import logging
import sys
from pathlib import Path

from marq.host.processes import die_with_parent
from workers import scoreboard
from workers.group.ranks import Ranks
from workers.handler import log_lines, traces
from workers.handler.loader import load_replica
from workers.handler.measurements import Collector
from workers.launch import ReplicaSpec
from workers.replica import children
from workers.replica.async_loop import AsyncReplica
from workers.replica.continuous import ContinuousReplica
from workers.replica.loop import Replica

log = logging.getLogger(__name__)


def main() -> None:
    die_with_parent()
    children.prepare()
    sys.excepthook = traces.show_uncaught
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(log_lines.MarkedFormatter("%(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    spec = ReplicaSpec.from_environment()
    board = scoreboard.Scoreboard(Path(spec.scoreboard))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # for handlers that use it when they are initialised
    collector = Collector(spec.pool.model)
    collector.install()
    ranks = Ranks(spec) if spec.pool.model.ranks > 1 else None
    call = load_replica(spec, collector, ranks.shared if ranks else None)
    if ranks:
        ranks.wait_until_loaded()
    gc.freeze()  # the model lives as long as the process: collections need not look at it
    log.info("Torch worker started.")
    if spec.pool.model.async_communication:
        AsyncReplica(spec, call, board, loop, collector).run()
    elif spec.pool.model.continuous_batching:
        ContinuousReplica(spec, call, board, collector).run()
    else:
        Replica(spec, call, board, collector).run()


if __name__ == "__main__":
    main()
