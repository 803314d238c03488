"""Reads a gateway's reply stream and tells whoever waits: the way back of every prediction."""

import asyncio
import logging
from typing import Any

from marq.connections.pipelined import PipelinedConnection
from marq.errors import MalformedEntry, StreamBroken
from marq.queue.entries import Reply, decode_replies
from marq.queue.pending import Waiting
from marq.queue.reply_stream import StreamState

log = logging.getLogger(__name__)

TRIM_EVERY = 64  # reply entries that are left in the stream at most, plus those of one read
READ_AGAIN_AFTER_S = 0.2  # where Redis refused to let us read


class ReplyReader:
    """Reads over one connection at a time; `pending` are the requests that are waited for, by their ids."""

    def __init__(self, stream: str, pending: dict[bytes, Waiting]) -> None:
        self.last = b"0"  # the newest entry that was read
        self._stream = stream
        self._pending = pending
        self._streams: dict[bytes, StreamState] = {}  # of those in `pending` that have got parts
        self._untrimmed = 0

    def forget(self, request_id: bytes) -> None:
        """Ignores what comes for this request from now on."""
        self._pending.pop(request_id, None)
        self._streams.pop(request_id, None)

    def fail_all(self, error: Exception) -> None:
        """Tells all who wait that nothing will come."""
        waiting = list(self._pending.values())
        self._pending.clear()
        self._streams.clear()
        for each in waiting:
            if not each.done():
                each.set_exception(error)

    def read_on(self, connection: PipelinedConnection) -> None:
        """Waits for more replies; trims what was read now and then, in the same write."""
        if self._untrimmed >= TRIM_EVERY:
            trimmed = connection.execute("XTRIM", self._stream, "MINID", _after(self.last))
            trimmed.add_done_callback(log_failure)
            self._untrimmed = 0
        read = connection.execute("XREAD", "BLOCK", 0, "STREAMS", self._stream, self.last)
        read.add_done_callback(lambda done: self._on_replies(connection, done))

    def _on_replies(self, connection: PipelinedConnection, done: asyncio.Future[Any]) -> None:
        if done.cancelled() or isinstance(done.exception(), ConnectionError):
            return
        if error := done.exception():
            log.error("replies cannot be read: %s", error)
            done.get_loop().call_later(READ_AGAIN_AFTER_S, self.read_on, connection)
            return
        for _, entries in done.result() or ():  # nothing, if an administrator unblocks us
            self._untrimmed += len(entries)
            for entry, fields in entries:
                self.last = entry
                self._resolve(entry, fields)
        self.read_on(connection)

    def _resolve(self, entry: bytes, fields: list[bytes]) -> None:
        try:
            replies = decode_replies(fields)
        except MalformedEntry as error:
            log.error("entry %s of %s is not a reply: %s", entry.decode(), self._stream, error.reason)
            return
        for reply in replies:
            if reply.more or reply.id in self._streams:
                self._resolve_part(reply)
                continue
            waiting = self._pending.pop(reply.id, None)
            if waiting and not waiting.done():
                waiting.set_result(reply)

    def _resolve_part(self, reply: Reply) -> None:
        """Passes parts on in order. One that does not follow comes from a replica that took the place of a
        lost one: what was sent cannot be taken back, so the answer is cut off."""
        waiting = self._pending.get(reply.id)
        if waiting is None:
            return
        state = self._streams.setdefault(reply.id, StreamState(reply.status))
        if state.is_repeated(reply):
            return
        if not state.follows(reply):
            self.forget(reply.id)
            waiting.set_exception(StreamBroken("The answer was cut off: its replica was lost, or failed."))
        elif reply.more:
            waiting.set_part(reply)
        else:
            self.forget(reply.id)
            waiting.set_result(reply)


def _after(entry: bytes) -> bytes:
    """The smallest entry id after this one."""
    milliseconds, _, number = entry.partition(b"-")
    return b"%s-%d" % (milliseconds, int(number or 0) + 1)


def log_failure(done: asyncio.Future[Any]) -> None:
    """For commands that nobody waits for."""
    if not done.cancelled() and (error := done.exception()):
        log.debug("ignored: %s", error)
