"""Bodies as strings of Redis, beside the lanes: for requests whose gateway and replicas share no files.

Lanes stay small, whatever waits in them. The body of a prediction belongs to the process that waits for the
answer, which removes it when the request has no answer; who answers it removes it with the entry, which costs
no further write. It expires soon after that process. The body of a job belongs to the job's record
(marq/queue/lua/index.lua).
"""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

from marq import keys
from marq.connections.blocking import Connection
from marq.connections.urls import pack
from marq.payloads.files import PLAIN

REF = re.compile(rb"body:[0-9A-Za-z-]{1,64}")
MOST_INLINE = 65_536  # bytes of a body that is in its entry: from here on, a key costs no more CPU time
FIELD = b"body_key"  # instead of `body`, in a call of submit.lua: the script makes the key
# SET as `pack` packs it, and the command that follows: the body is copied once
SET = b"*5\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n$2\r\nEX\r\n$2\r\n%d\r\n%b"
TTL_S = 60  # of the body of a prediction; renewed while its request is pending


class Row(Protocol):
    """The part of a request that is used here."""

    lane: str
    body: bytes | bytearray
    body_ref: bytes


def is_ref(value: bytes) -> bool:
    """Whether a value can be the reference of a key: `body:ID`."""
    return REF.fullmatch(value) is not None


def becomes_key(request_id: bytes, body: bytes) -> bool:
    """Whether the body of a request is to be a key."""
    return len(body) > MOST_INLINE and PLAIN.fullmatch(request_id) is not None


def load(connection: Connection, rows: Sequence[Row]) -> None:
    """Reads the bodies of rows of one model, once. A row whose key is gone, or is no string, has none then.

    Raises redis.RedisError.
    """
    found = connection.execute("MGET", *(keys.beside(row.lane.encode(), row.body_ref) for row in rows))
    for row, body in zip(rows, found, strict=True):
        row.body = body or b""


class BodyKeys:
    """The keys of the pending predictions of one process; `send` takes a packed command.

    A command that cannot be sent is lost: then the key expires.
    """

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self.sizes: dict[bytes, int] = {}  # by request id, until the request has ended
        self._keys: dict[bytes, bytes] = {}
        self.held = 0  # bytes of them

    def add(self, lane: bytes, request_id: bytes, size: int) -> bytes:
        """Counts the body of a request that is about to be sent; returns its reference."""
        ref = keys.BODY + request_id
        self._keys[request_id] = keys.beside(lane, ref)
        self.sizes[request_id] = size
        self.held += size
        return ref

    def ahead(self, request_id: bytes, body: bytes, following: bytes = b"") -> bytes:
        """The packed command that makes the key, and those that follow it."""
        key = self._keys[request_id]
        return SET % (len(key), key, len(body), body, TTL_S, following)

    def discard(self, request_id: bytes) -> None:
        """Removes the body of a request that has ended without an answer, if it has a key."""
        if (key := self.forget(request_id)) is not None:
            self._send(pack(("UNLINK", key)))

    def forget(self, request_id: bytes) -> bytes | None:
        """Counts the body of a request no more; returns its key, if it has one."""
        if (key := self._keys.pop(request_id, None)) is not None:
            self.held -= self.sizes.pop(request_id)
        return key

    def renewals(self) -> list[bytes]:
        """The packed commands after which the keys live for TTL_S more."""
        return [pack(("EXPIRE", key, TTL_S)) for key in self._keys.values()]
