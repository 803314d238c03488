"""One gateway process: `python -m gateway`, with its listening sockets inherited from the supervisor."""

import gc
import os

import uvloop

from gateway.server import serve, stay_on_one_core
from marq import logs
from marq.connections import clients
from marq.host.processes import die_with_parent
from marq.host.sockets import GATEWAY_VARIABLE, inherited_sockets
from marq.settings import inherited

GC_THRESHOLD = (20_000, 20, 20)  # requests leave no cycles; the default would collect every 30 requests


def main() -> None:
    die_with_parent()
    config = inherited.load()
    logs.configure("gateway", config.log_dir)
    clients.check(config.redis_url)
    number = int(os.environ.get(GATEWAY_VARIABLE, "0"))
    stay_on_one_core(number)
    gc.freeze()  # objects of the start live as long as the process: collections can skip them
    gc.set_threshold(*GC_THRESHOLD)
    uvloop.run(serve(config, inherited_sockets(os.environ), number))


if __name__ == "__main__":
    main()
