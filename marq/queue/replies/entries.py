"""Reply entries: the fields of one reply, or of several in a row, each starting with `id`."""

import logging
from dataclasses import dataclass

from marq.errors import BadReply, MalformedEntry
from marq.queue.entries import DEFAULT_TTL_MS, MOST_DIGITS
from marq.reply_rules import is_final_status

log = logging.getLogger(__name__)

MOST_REPLIES = 10_000  # of a stream that a producer named and may never read
JSON_HEADERS = b'{"content-type": "application/json"}'  # of error replies


@dataclass(slots=True)
class Reply:
    """The answer to one request, or one part of it.

    `headers` is a JSON object or empty. `more` is 0 for a whole answer and for the last part of a streamed
    one, else the part's number, from 1. With a `body_ref` the body is in that file.
    """

    id: bytes
    status: int
    body: bytes
    headers: bytes = b""
    more: int = 0
    body_ref: bytes = b""

    def fields(self) -> list[bytes]:
        flat = [b"id", self.id, b"status", b"%d" % self.status]
        if self.headers:
            flat += (b"headers", self.headers)
        if self.more:
            flat += (b"more", b"%d" % self.more)
        flat += (b"body_ref", self.body_ref) if self.body_ref else (b"body", self.body)
        return flat

    def commands(self, reply: bytes, replies: bytes) -> list[tuple[object, ...]]:
        """The commands that send this reply to the streams `reply` and `replies` of its request, if given."""
        sent: list[tuple[object, ...]] = []
        if replies:
            sent.append(("XADD", replies, "NOMKSTREAM", "*", *self.fields()))
        if reply:
            sent.append(("XADD", reply, "MAXLEN", "~", MOST_REPLIES, "*", *self.fields()))
            sent.append(("PEXPIRE", reply, DEFAULT_TTL_MS))
        return sent


def decode_replies(fields: list[bytes]) -> list[Reply]:
    """All replies of one entry of a reply stream. Raises MalformedEntry if the entry has no request's id.

    A reply with a status that no answer can have, or with a `more` that is not a number, becomes an error:
    the other replies of its entry are good.
    """
    if fields and fields[0] != b"id":
        raise MalformedEntry("the first field of a reply must be `id`", fields)
    replies: list[Reply] = []
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"id":
            reply = Reply(value, 200, b"")
            replies.append(reply)
        elif name == b"body":
            reply.body = value
        elif name == b"body_ref":
            reply.body_ref = value
        elif name == b"status":
            reply.status = _number(value)
        elif name == b"more":
            reply.more = _number(value)
        elif name == b"headers":
            reply.headers = value
    return [
        reply if is_final_status(reply.status) and reply.more >= 0 else bad_reply(reply.id)
        for reply in replies
    ]


def bad_reply(request_id: bytes, reason: str = "its status or number is not one") -> Reply:
    """The answer to a request whose reply cannot be sent."""
    error = BadReply(f"The reply to the request cannot be sent: {reason}.")
    log.error("request %s: %s", request_id.decode(errors="replace"), error.message)
    return Reply(request_id, error.status, error.body(), JSON_HEADERS)


def _number(value: bytes) -> int:
    """-1 if the value is not a whole number."""
    return int(value) if value.isdigit() and len(value) <= MOST_DIGITS else -1
