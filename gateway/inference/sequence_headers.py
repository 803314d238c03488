"""The headers that place a request in a sequence."""

from dataclasses import dataclass, replace

from gateway.asgi import Headers
from marq.queue.entries import EntryHead
from marq.queue.ids import new_id

INVENTED = b"ts-seq-%b"


@dataclass(frozen=True)
class SequenceHeaders:
    """Their names, in lower case."""

    id: bytes
    start: bytes
    end: bytes

    @classmethod
    def of(cls, names: list[str]) -> "SequenceHeaders":
        """From the names of the settings: id, start, end."""
        return cls(*(name.lower().encode() for name in names))

    def place(self, head: EntryHead, headers: Headers) -> EntryHead:
        """The fields with those of the sequence. A request without an id begins a sequence of a new id."""
        given = {name.lower(): value for name, value in headers}
        ends = given.get(self.end, b"").lower() in (b"true", b"1")
        return in_sequence(head, given.get(self.id, b"").decode("latin-1"), ends)


def in_sequence(head: EntryHead, name: str, ends: bool = False) -> EntryHead:
    """The fields with those of a sequence; without a name, of a new one."""
    flag = b"1" if ends else b""
    if name:
        return replace(head, sequence=name.encode(), sequence_end=flag)
    return replace(head, sequence=INVENTED % new_id(), sequence_start=b"1", sequence_end=flag)


USUAL = SequenceHeaders(b"ts_request_sequence_id", b"ts_request_sequence_start", b"ts_request_sequence_end")
