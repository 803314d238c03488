"""Celery's remote commands of a pool: `celery -A workers.app inspect|control COMMAND`."""

from typing import Any, TypedDict

from celery.worker.control import control_command, inspect_command

from marq.connections import urls


class Broker(TypedDict):
    """The part of the statistics about the broker, as far as it is changed here."""

    hostname: str
    alternates: list[str]


class Statistics(TypedDict):
    """Celery's statistics of a worker, as far as they are changed here."""

    broker: Broker


@control_command(args=[("generation", int)], signature="GENERATION")  # type: ignore[untyped-decorator]
def replace_replicas(state: Any, generation: int) -> dict[str, str]:
    """Replaces all replicas of the pool, one after the other."""
    state.consumer.pool.replace(generation)
    return {"ok": "replacing all replicas"}


@inspect_command()  # type: ignore[untyped-decorator]
def stats(state: Any, **_: object) -> Statistics:
    """Celery's own statistics, without the password of Redis, which is part of the broker's URL."""
    found: Statistics = state.consumer.controller.stats()
    broker = found["broker"]
    broker["hostname"] = urls.without_password(broker["hostname"])
    broker["alternates"] = [urls.without_password(url) for url in broker["alternates"]]
    return found
