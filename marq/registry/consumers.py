"""Names of pools and of their replicas' consumers."""

from marq.registry.spec import ModelSpec


def pool_name(model: ModelSpec, node: str) -> str:
    return f"{model.name}-{model.version}@{node}"


def consumer_name(pool: str, slot: int, pid: int) -> str:
    """A replica's name in the consumer groups."""
    return f"{pool}/{slot}/{pid}"


def aside_name(consumer: str) -> str:
    """The consumer of the same slot that holds the entries which a replica gives back, until the requeue."""
    return f"{consumer.rpartition('/')[0]}/0"


def pool_of(consumer: str) -> str:
    """The pool that a consumer belongs to."""
    return consumer.rsplit("/", 2)[0]
