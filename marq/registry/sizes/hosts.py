"""The devices of the hosts, as their nodes publish them."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from marq import keys
from marq.connections.commands import RedisClient


@dataclass(frozen=True)
class Device:
    """One GPU."""

    id: int  # as handlers count them
    memory: int = 0  # bytes; 0: unknown
    name: str = ""


@dataclass(frozen=True)
class Host:
    """The devices, cores and memory that one node has for replicas."""

    kind: str = ""  # of the devices: "cuda", "rocm", "xpu", "mps"; empty: it has none
    devices: tuple[Device, ...] = ()
    cores: int = 0

    @property
    def device_kind(self) -> str:
        """As torch names the devices: AMD's have the same name as NVIDIA's."""
        return self.kind if self.kind in ("xpu", "mps") else "cuda"

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> "Host":
        stored = json.loads(text)
        devices = tuple(Device(**device) for device in stored["devices"])
        return cls(stored["kind"], devices, stored["cores"])


UNKNOWN = Host()
Hosts = Mapping[str, Host]  # by the names of the nodes that are alive


def hosts_of(nodes: list[bytes], stored: Mapping[bytes, bytes]) -> dict[str, Host]:
    """`nodes`: those that are alive; one that has published nothing yet has no device."""
    return {
        node.decode(): Host.from_json(stored[node]) if node in stored else UNKNOWN for node in sorted(nodes)
    }


def read(client: RedisClient) -> dict[str, Host]:
    """The hosts whose nodes reported lately. Raises redis.RedisError."""
    with client.pipeline(transaction=False) as pipe:
        pipe.execute_command("ZRANGE", keys.NODES, 0, -1)
        pipe.hgetall(keys.DEVICES)
        nodes, stored = pipe.execute()
    return hosts_of(nodes, stored)


def publish(client: RedisClient, node: str, host: Host) -> None:
    """Raises redis.RedisError."""
    client.hset(keys.DEVICES, node, host.to_json())


def withdraw(client: RedisClient, *nodes: str) -> None:
    """Raises redis.RedisError."""
    client.hdel(keys.DEVICES, *nodes)
