"""Messages of Celery's clients (protocol 2), as a broker delivers them."""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson
from celery.exceptions import NotRegistered
from kombu import compression, serialization
from kombu.exceptions import ContentDisallowed, DecodeError

_decompress: Callable[[bytes, str], bytes] = compression.decompress
_loads: Callable[..., Any] = serialization.loads
TASK_ID = re.compile(r"[\w.:@/+=-]{1,200}", re.ASCII)
ACCEPTED = frozenset(("application/json",))
# The fields of a task that are kept until its result is written.
KEPT = ("id", "task", "root_id", "parent_id", "group", "group_index", "ignore_result")
FOLLOWERS = ("callbacks", "errbacks", "chain", "chord")


class Junk(ValueError):
    """Raised for a message that is not a task: it has no id for a result."""


class Refused(Exception):
    """Raised for a task that cannot run: `error` becomes its result."""

    def __init__(self, error: Exception, request: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.error, self.request = error, request


@dataclass(frozen=True)
class Message:
    """One message. `priority` is None where the producer has given none."""

    body: bytes
    content_type: str
    content_encoding: str
    headers: Mapping[str, Any]
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None

    @classmethod
    def of_redis(cls, raw: bytes) -> Self:
        """A message as kombu stores it in a list. Raises Junk."""
        try:
            envelope = orjson.loads(raw)
            properties, body = envelope["properties"], envelope["body"]
            if properties.get("body_encoding") == "base64":
                body = base64.b64decode(body)
            return cls(
                body if isinstance(body, bytes) else body.encode(),
                envelope["content-type"],
                envelope.get("content-encoding") or "utf-8",
                envelope["headers"],
                properties.get("correlation_id"),
                properties.get("reply_to"),
                properties.get("priority"),
            )
        except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
            raise Junk(f"it is not an envelope of kombu: {error!r}") from None


@dataclass(frozen=True)
class Task:
    """A task: its arguments, and `request`, which Celery's result backends need of it."""

    id: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    eta: str | None
    expires: str | None
    priority: int | None
    request: dict[str, Any]

    @classmethod
    def read(cls, message: Message) -> Self:
        """Raises Junk and Refused."""
        headers = message.headers
        if not isinstance(headers, dict) or not isinstance(headers.get("id"), str):
            raise Junk("it has no header `id`, as tasks of Celery's protocol 2 have")
        if not TASK_ID.fullmatch(headers["id"]):
            raise Junk(f"its id must be like ^{TASK_ID.pattern}$, not {headers['id']!r:.100}")
        request = {name: headers[name] for name in KEPT if headers.get(name) is not None}
        request |= {"reply_to": message.reply_to, "correlation_id": message.correlation_id}
        args, kwargs, embed = _read_body(message, request)
        request |= {name: embed[name] for name in FOLLOWERS if embed.get(name)}
        name = headers.get("task")
        if not isinstance(name, str):
            raise Refused(NotRegistered(repr(name)), request)
        return cls(
            headers["id"], name, args, kwargs, headers.get("eta"), headers.get("expires"), message.priority,
            request,
        )  # fmt: skip


def _read_body(message: Message, request: dict[str, Any]) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    """Arguments, keyword arguments, and the tasks that follow. Raises Refused."""
    if message.content_type not in ACCEPTED:
        error = ContentDisallowed(
            f"Tasks of marq are JSON (task_serializer='json'), not {message.content_type!r:.100}"
        )
        raise Refused(error, request)
    try:
        body = message.body
        if method := message.headers.get("compression"):
            body = _decompress(body, method)
        args, kwargs, embed = _loads(body, message.content_type, message.content_encoding, accept=ACCEPTED)
    except Exception as error:  # decompressors and decoders raise errors of any class
        raise Refused(DecodeError(f"The task's body cannot be read: {error}"), request) from None
    if not (isinstance(args, list) and isinstance(kwargs, dict) and isinstance(embed, dict)):
        raise Refused(DecodeError("The task's body must be [args, kwargs, embed]"), request)
    return args, kwargs, embed
