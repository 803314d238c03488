"""The requests whose replies a gateway or a client awaits."""

from collections.abc import Callable
from typing import Protocol

from marq.errors import StreamBroken
from marq.payloads.body_keys import BodyKeys
from marq.payloads.folder import Folder, Upload
from marq.queue.entries import EntryRef
from marq.queue.replies.entries import Reply
from marq.queue.replies.parts import StreamState

CUT_OFF = "The answer was cut off: its replica was lost, or failed."

TakeOut = Callable[[bytes, EntryRef], None]  # request id, its entry


class Waiting(Protocol):
    """Receives the reply to one request: an asyncio.Future that also takes parts, or a cheaper object.

    `lane` and `entry` locate the request in Redis; `entry` is empty until Redis has answered the XADD.
    """

    lane: bytes
    entry: bytes

    def done(self) -> bool: ...

    def set_part(self, part: Reply, /) -> None: ...

    def set_result(self, reply: Reply, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class PendingRequests:
    """All pending requests of one process, by id. Nothing else keeps or changes them.

    The file of a request's body is removed from `folder` when the request has ended. So is its key of
    `body_keys`, if the request was not answered: who answers it removes the key.
    """

    def __init__(self, folder: Folder | None = None, body_keys: BodyKeys | None = None) -> None:
        self._folder, self._body_keys = folder, body_keys
        self._keyed: dict[bytes, int] = body_keys.sizes if body_keys else {}
        self._bodies: dict[bytes, Upload] = folder.bodies if folder else {}
        self._waiting: dict[bytes, Waiting] = {}
        self._streams: dict[bytes, StreamState] = {}  # of the requests that have received a part
        self._cancelled: dict[bytes, tuple[bytes, TakeOut]] = {}  # until Redis answers: lane, callback

    def __len__(self) -> int:
        return len(self._waiting) + len(self._cancelled)

    def __contains__(self, request_id: bytes) -> bool:
        return request_id in self._waiting or request_id in self._cancelled

    def takes_buffers(self, request_id: bytes) -> bool:
        """Whether the receiver of a request's reply takes a body that is a memoryview."""
        return getattr(self._waiting.get(request_id), "takes_buffers", False)

    def add(self, request_id: bytes, lane: bytes, waiting: Waiting) -> None:
        waiting.lane = lane
        self._waiting[request_id] = waiting

    def locate(self, request_id: bytes, entry: bytes) -> None:
        """Notes the entry of a request that Redis has queued; removes it if the request is cancelled."""
        if waiting := self._waiting.get(request_id):
            waiting.entry = entry
        elif cancelled := self._cancelled.pop(request_id, None):
            lane, take_out = cancelled
            take_out(request_id, EntryRef(lane, entry))

    def move(self, request_id: bytes, where: EntryRef) -> None:
        """The same for a request that is in another lane than was expected."""
        if waiting := self._waiting.get(request_id):
            waiting.lane = where.lane
        elif cancelled := self._cancelled.get(request_id):
            self._cancelled[request_id] = where.lane, cancelled[1]
        self.locate(request_id, where.entry)

    def queued(self) -> dict[bytes, EntryRef]:
        """The requests whose entries are known."""
        return {
            request_id: EntryRef(waiting.lane, waiting.entry)
            for request_id, waiting in self._waiting.items()
            if waiting.entry
        }

    def of(self, lane: bytes) -> dict[bytes, Waiting]:
        """The requests of one lane, by id."""
        return {request_id: each for request_id, each in self._waiting.items() if each.lane == lane}

    def all(self) -> dict[bytes, Waiting]:
        """All requests, by id."""
        return dict(self._waiting)

    def reply(self, reply: Reply) -> None:
        """Passes a reply on: a whole answer, or one part of it. Raises the exceptions of its receiver."""
        if reply.more or reply.id in self._streams:
            self._part(reply)
            return
        waiting = self._waiting.pop(reply.id, None)
        if self._bodies and self._folder:
            self._folder.discard(reply.id)
        if self._keyed and self._body_keys:
            self._body_keys.forget(reply.id)
        if waiting and not waiting.done():
            try:
                waiting.set_result(reply)
            except Exception:
                self._waiting[reply.id] = waiting  # the caller can still fail it
                raise

    def forget(self, request_id: bytes) -> None:
        """Ignores all replies to this request from now on."""
        self._waiting.pop(request_id, None)
        self._streams.pop(request_id, None)
        if self._bodies or self._keyed:
            self._discard(request_id)

    def cancel(self, request_id: bytes, take_out: TakeOut) -> None:
        """Forgets a request; `take_out` is called with its entry, at once or as soon as that is known."""
        waiting = self._waiting.get(request_id)
        self.forget(request_id)
        if waiting is None:
            return
        if waiting.entry:
            take_out(request_id, EntryRef(waiting.lane, waiting.entry))
        else:
            self._cancelled[request_id] = waiting.lane, take_out

    def fail(self, request_id: bytes, error: Exception) -> None:
        self._cancelled.pop(request_id, None)
        waiting = self._waiting.get(request_id)
        self.forget(request_id)
        if waiting and not waiting.done():
            waiting.set_exception(error)

    def fail_all(self, error: Exception) -> None:
        for request_id in [*self._waiting, *self._cancelled]:
            self.fail(request_id, error)

    def _discard(self, request_id: bytes) -> None:
        if self._folder:
            self._folder.discard(request_id)
        if self._body_keys:
            self._body_keys.discard(request_id)

    def _part(self, reply: Reply) -> None:
        """Passes parts on in order.

        A part out of order comes from the successor of a lost replica. The client already has the first one's
        parts, so the answer is cut off.
        """
        waiting = self._waiting.get(reply.id)
        if waiting is None:
            return
        state = self._streams.setdefault(reply.id, StreamState(reply.status))
        if state.is_repeated(reply):
            return
        if not state.follows(reply):
            self.forget(reply.id)
            waiting.set_exception(StreamBroken(CUT_OFF))
        elif reply.more:
            waiting.set_part(reply)
        else:
            waiting.set_result(reply)
            self.forget(reply.id)
