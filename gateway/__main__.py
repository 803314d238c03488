"""One gateway process: `python -m gateway`, with its listening sockets inherited from the supervisor."""

import gc
import os

import uvloop

from gateway.server import GC_THRESHOLD, _number, serve, stay_on_one_core
from marq import logs
from marq.connections import clients
from marq.host.processes import die_with_parent
from marq.host.sockets import inherited_sockets
from marq.settings import loading


def main() -> None:
    die_with_parent()
    config = loading.load()
    logs.configure("gateway", config.log_dir)
    clients.check(config.redis_url)
    stay_on_one_core(_number())
    gc.freeze()  # what start-up has left lives as long as the process: collections need not look at it
    gc.set_threshold(*GC_THRESHOLD)
    uvloop.run(serve(config, inherited_sockets(os.environ)))


if __name__ == "__main__":
    main()
