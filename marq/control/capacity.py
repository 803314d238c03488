"""How many replicas can be meant: a larger number is a slip of the hand more often than a wish."""

import os

import psutil

from marq.errors import BadRequest, InvalidModel
from marq.registry.models import Registry
from marq.registry.sizes import hosts, placement
from marq.registry.spec import ModelSpec

REPLICAS_PER_UNIT = 64  # of a core, or of a GPU
LEAST_BYTES = 32 << 20  # of memory that a replica takes, however small its model is
ALWAYS = 256  # a model version may have so many replicas on any host


class Capacity:
    """The most replicas of one version that a request may ask for without `force`.

    Nodes count as hosts like this one.
    """

    def __init__(self, registry: Registry, gpus: int) -> None:
        self._registry = registry
        by_units = REPLICAS_PER_UNIT * ((os.cpu_count() or 1) + gpus)
        self._of_a_host = max(ALWAYS, min(by_units, psutil.virtual_memory().total // LEAST_BYTES))

    def check(self, replicas: int) -> None:
        """Raises BadRequest for more. Raises redis.RedisError."""
        if replicas <= self._of_a_host:
            return
        nodes = max(1, self._registry.live_nodes())
        if replicas > nodes * self._of_a_host:
            where = "this host" if nodes == 1 else f"{nodes} hosts"
            raise BadRequest(
                f"{replicas} replicas are more than the {nodes * self._of_a_host} that the cores, memory and "
                f"devices of {where} allow for one model version. Add force=true if you mean it."
            )

    def check_devices(self, spec: ModelSpec) -> None:
        """Raises InvalidModel if a replica needs more GPUs than any host has. Raises redis.RedisError."""
        if spec.parallel_level and (fault := placement.too_few(spec, hosts.read(self._registry.redis))):
            raise InvalidModel(f"{fault}. Add force=true if a host with more joins later.")
