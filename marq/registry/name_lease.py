"""The lease of a name: of the processes that have the same name, one at a time works under it.

A lease ends by the rule of heartbeats: when its owner has not renewed it for the heartbeat limit.
"""

import os
import secrets
import socket
from dataclasses import dataclass

from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.connections.scripts import read
from marq.registry.models import HEARTBEAT_LIMIT_S

HOLD, RELEASE = read("marq.registry", "hold"), read("marq.registry", "release")
LEASE_MS = int(HEARTBEAT_LIMIT_S * 1000)


@dataclass(frozen=True)
class Owner:
    """The owner of a name. Its token is secret enough that no other process has the same by accident."""

    token: str
    host: str
    pid: int

    @classmethod
    def this_process(cls, token: str = "") -> "Owner":
        """This process as an owner: with the token of an owner that has ended, or with a new one."""
        return cls(token or secrets.token_hex(16), socket.gethostname(), os.getpid())

    @classmethod
    def parse(cls, text: str) -> "Owner":
        token, pid, host = text.split(" ", 2)
        return cls(token, host, int(pid))

    def __str__(self) -> str:
        """As it is stored."""
        return f"{self.token} {self.pid} {self.host}"

    @property
    def shown(self) -> str:
        return f"process {self.pid} on the host {self.host}"


@dataclass(frozen=True)
class Held:
    """The owner of a name that another process asked for."""

    owner: Owner
    rest_ms: int  # of its lease

    def was_renewed_since(self, before: "Held") -> bool:
        """Whether the owner lives. The two looks must be less than a lease apart."""
        return self.owner == before.owner and self.rest_ms > before.rest_ms


class NameLease:
    """One lease, under its key."""

    def __init__(self, client: RedisClient, key: str, owner: Owner, lease_ms: int = 0) -> None:
        self.owner, self._lease_ms = owner, lease_ms or LEASE_MS
        self._redis, self._key = client, key

    def hold(self) -> Held | None:
        """Takes or renews the lease; None if it is this owner's now. Raises redis.RedisError."""
        call = HOLD.call([self._key], self.owner.token, str(self.owner), self._lease_ms)
        owner, rest_ms = clients.run(self._redis, call)
        return Held(Owner.parse(owner.decode()), int(rest_ms)) if owner else None

    def release(self) -> None:
        """Gives the name back. Raises redis.RedisError."""
        clients.run(self._redis, RELEASE.call([self._key], self.owner.token))
