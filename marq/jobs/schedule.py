"""Moves jobs to their lanes when they are due, or when it is their caller's turn; closes abandoned groups.

Several processes may do so at once: each move is one step.
"""

from collections.abc import Iterable

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.queue import scripts
from marq.registry.spec import ModelSpec

AT_ONCE = 500  # jobs of a version: a script holds up all other commands


def queue_due(client: RedisClient, specs: Iterable[ModelSpec], early: bool = False) -> int:
    """Queues scheduled jobs that are due, and held ones for which there is room; `early`: also the others.

    Closes the groups whose upload has ended with its gateway. Returns how many jobs were queued. Raises
    redis.RedisError.
    """
    versions = [(spec.name, spec.version) for spec in specs]
    names = [keys.scheduled(*version) for version in versions]
    held = (keys.held_counts(*version) for version in versions)
    if not names or not client.exists(*names, *held, *(keys.uploads(model) for model, _ in versions)):
        return 0  # the usual case costs one command, however many models there are
    replies = clients.pipeline(client, [scripts.DUE.call([name], int(early), AT_ONCE) for name in names])
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return sum(int(reply) for reply in replies)
