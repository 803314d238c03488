"""Lanes without a version, `marq:{MODEL}:LANE`: their requests go to the model's default version.

Several processes may move them at once: each move is one step.
"""

from collections.abc import Iterable

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.connections.scripts import read
from marq.registry.spec import ModelSpec

FORWARD = read("marq.admission", "forward")
AT_ONCE = 100  # requests of a lane: a script holds up all other commands


def of(specs: Iterable[ModelSpec]) -> dict[str, str]:
    """The model of each such lane of the models of these versions."""
    return {keys.default_lane(spec.name, lane): spec.name for spec in specs for lane in keys.LANES}


def forward(client: RedisClient, lanes: dict[str, str]) -> int:
    """Moves what waits in these lanes, some at a time. Returns how many. Raises redis.RedisError."""
    calls = [FORWARD.call([lane, keys.DEFAULT_VERSIONS], model, AT_ONCE) for lane, model in lanes.items()]
    replies = clients.pipeline(client, calls)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return sum(int(reply) for reply in replies)
