"""Reads the reply stream of a gateway or client."""

import asyncio
import logging
from typing import cast

from marq.connections.commands import Reply as RedisReply
from marq.connections.pipelined import PipelinedConnection
from marq.errors import BadReply, MalformedEntry
from marq.payloads.files import PayloadLost
from marq.payloads.folder import Folder
from marq.queue.replies.entries import Reply, decode_replies
from marq.queue.replies.pending import PendingRequests

log = logging.getLogger(__name__)

TRIM_EVERY = 64  # reply entries that are left in the stream at most, plus those of one read
READ_AGAIN_AFTER_S = 0.2  # after Redis refused to read the stream


class ReplyReader:
    """Reads over one connection at a time, and passes each reply to the pending request."""

    def __init__(self, stream: str, pending: PendingRequests, folder: Folder | None = None) -> None:
        self.last = b"0"  # the newest entry that was read
        self._stream, self._folder = stream, folder
        self._pending = pending
        self._untrimmed = 0

    def read_on(self, connection: PipelinedConnection) -> None:
        """Waits for more replies; now and then trims the stream in the same write."""
        if self._untrimmed >= TRIM_EVERY:
            trimmed = connection.execute("XTRIM", self._stream, "MINID", _after(self.last))
            trimmed.add_done_callback(log_failure)
            self._untrimmed = 0
        read = connection.execute("XREAD", "BLOCK", 0, "STREAMS", self._stream, self.last)
        read.add_done_callback(lambda done: self._on_replies(connection, done))

    def _on_replies(self, connection: PipelinedConnection, done: asyncio.Future[RedisReply]) -> None:
        if done.cancelled() or isinstance(done.exception(), ConnectionError):
            return
        if error := done.exception():
            log.warning("replies cannot be read now, next attempt in %g s: %s", READ_AGAIN_AFTER_S, error)
            done.get_loop().call_later(READ_AGAIN_AFTER_S, self.read_on, connection)
            return
        for _, entries in done.result() or ():  # None if an administrator unblocks the connection
            self._untrimmed += len(entries)
            for entry, fields in entries:
                self.last = entry
                try:
                    self.resolve(entry, fields)
                except Exception:  # the reader goes on, whatever an entry does to those that wait for it
                    log.exception("entry %s of %s failed", entry.decode(), self._stream)
        self.read_on(connection)

    def resolve(self, entry: bytes, fields: list[bytes]) -> None:
        """Passes the replies of one entry on; one that cannot be sent fails its own request."""
        try:
            replies = decode_replies(fields)
        except MalformedEntry as error:
            log.error("entry %s of %s is not a reply: %s", entry.decode(), self._stream, error.reason)
            return
        for reply in replies:
            try:
                if reply.body_ref:
                    reply.body = self._fetch(reply)
                self._pending.reply(reply)
            except Exception as error:
                log.exception("request %s: its reply cannot be sent", reply.id.decode(errors="replace"))
                known = isinstance(error, BadReply | PayloadLost)
                self._pending.fail(reply.id, error if known else BadReply("The reply cannot be sent."))

    def _fetch(self, reply: Reply) -> bytes:
        """The body of an answer that is a file; nothing for an answer that is not awaited any more.

        Raises PayloadLost.
        """
        if self._folder is None:
            raise PayloadLost("The answer is a file, which this process does not share.")
        if self._pending.takes_buffers(reply.id):
            return cast(bytes, self._folder.take_mapped(reply.body_ref))
        body = self._folder.take(reply.body_ref)
        return body if reply.id in self._pending else b""


def _after(entry: bytes) -> bytes:
    """The smallest entry id after this one."""
    milliseconds, _, number = entry.partition(b"-")
    return b"%s-%d" % (milliseconds, int(number or 0) + 1)


def log_failure(done: asyncio.Future[RedisReply]) -> None:
    """For commands whose replies do not matter."""
    if not done.cancelled() and (error := done.exception()):
        log.debug("Redis refused a command whose reply does not matter: %s", error)
