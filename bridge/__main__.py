"""One bridge process: `python -m bridge`."""

import logging
import signal
import sys

from bridge.ownership import OwnershipLost
from bridge.process import Bridge
from marq import logs
from marq.connections import clients
from marq.host.processes import die_with_parent
from marq.settings import inherited
from marq.settings.properties import SettingsError

log = logging.getLogger("bridge")  # not "__main__"


def main() -> None:
    supervised = die_with_parent()
    settings = inherited.load()
    logs.configure("bridge", settings.log_dir)
    for library in ("celery", "kombu", "amqp"):
        logging.getLogger(library).setLevel(logging.WARNING)
    clients.check(settings.redis_url)
    try:
        bridge = Bridge(settings)
    except SettingsError as error:
        log.error("%s", error)
        sys.exit(1)
    signal.signal(signal.SIGTERM, bridge.stop_soon)
    if not supervised:
        signal.signal(signal.SIGINT, bridge.stop_soon)
        signal.signal(signal.SIGHUP, bridge.stop_soon)
    try:
        bridge.run()
    except OwnershipLost as error:
        log.error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
