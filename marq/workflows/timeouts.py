"""Ends the tries of nodes that take too long. Several processes may do so at once: each end is one step."""

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.queue import scripts

AT_ONCE = 100  # tries of a workflow: a script holds up all other commands


def end_overdue(client: RedisClient) -> int:
    """Tries the nodes again, or fails their runs; returns how many. Raises redis.RedisError.

    Costs one command where no workflow is registered.
    """
    names = client.hkeys(keys.WORKFLOWS)
    if not names:
        return 0
    calls = [scripts.OVERDUE.call([keys.due(name.decode())], AT_ONCE) for name in names]
    replies = clients.pipeline(client, calls)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return sum(int(reply) for reply in replies)
