"""Whether the gateway, or else the node, of this container works: its exit code is the container's health."""

import os
import sys

from marq import keys
from marq.cli import http
from marq.connections import clients
from marq.errors import MarqError
from marq.host import server_file
from marq.host.node_name import node_name
from marq.registry.models import HEARTBEAT_LIMIT_S

TIMEOUT_S = 5.0


def gateway() -> str:
    """What `/ping` answers. Raises MarqError unless that is a success."""
    with http.connect(None, None, None).send("GET", "/ping", timeout=TIMEOUT_S) as response:
        return response.read().decode()


def node() -> str:
    """The age of the heartbeat of this container's node. Raises MarqError if it is lost."""
    name = node_name(server_file.state_dir())
    known = server_file.find_node()
    url = known.redis_url if known else os.environ["MARQ_REDIS_URL"]
    with clients.client(url, socket_timeout=TIMEOUT_S) as client:
        beat, (seconds, microseconds) = client.pipeline().zscore(keys.NODES, name).time().execute()
    age_s = seconds + microseconds / 1e6 - (beat or 0)
    if age_s > HEARTBEAT_LIMIT_S:
        raise MarqError(f"node {name} has not reported for {age_s:.0f} s")
    return f"node {name} reported {age_s:.1f} s ago"


def main() -> None:
    has_gateway = (server_file.state_dir() / server_file.FILE_NAME).exists()
    try:
        sys.stdout.write(gateway() if has_gateway else node())
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
