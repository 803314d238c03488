"""The interface between the loops of a replica and the part that decides which requests run together."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from marq.connections.commands import Reply
from marq.connections.urls import Command
from marq.queue.entries import EntryRef, Request

T = TypeVar("T")


class RowReader(Protocol):
    """Fetches rows, and holds them until a batch takes them. May raise redis.RedisError."""

    @property
    def held(self) -> int:
        """How many rows a batch could take."""

    def read(self, count: int, outgoing: Sequence[Command] = (), block_ms: int = 0) -> None:
        """Sends `outgoing` and reads rows; waits for the first one for up to `block_ms`."""

    def read_urgent(self, count: int, outgoing: Sequence[Command], /) -> None:
        """Sends `outgoing` and reads rows that are more urgent than the held ones, without waiting."""

    def read_in_order(self, count: int, batch: int, /) -> None:
        """Reads until `count` rows are held, in the order of the batch of this number."""

    def ask(self, count: int, /) -> list[Command]:
        """The commands that read up to `count` rows without waiting; `accept` takes their replies."""

    def accept(self, replies: Sequence[Reply], /) -> None:
        """Takes the replies of the commands of `ask`."""

    @property
    def has_suspect(self) -> bool:
        """Whether `take_suspect` would return a row."""

    def take_suspect(self) -> Request | None:
        """A held row that was running when its replica was lost, if there is one."""

    def take(self, count: int, batch: int, /) -> list[Request]:
        """Up to `count` held rows, in the order of the batch of this number."""

    def still_wanted(self, rows: list[Request], /) -> list[Request]:
        """The rows without those that were cancelled."""

    def forget(self) -> object:
        """Holds nothing afterwards."""

    def give_back(self) -> None:
        """Called when the handler is late: other replicas may run the held rows."""

    def age_s(self) -> float:
        """Seconds since the oldest held row was queued."""

    def measure_clock(self) -> None:
        """Notes how far the clock of Redis is ahead."""

    def adopt(self, running: Iterable[EntryRef], /) -> None:
        """Takes up rows that were delivered, and are neither held nor `running`."""


class BatchSource(Protocol):
    """Fetches requests and forms batches of them. Its calls come from one thread.

    All but `run_handler` may raise redis.RedisError. Then the caller reconnects, and calls `reset` or `adopt`
    before anything else.
    """

    @property
    def held(self) -> int:
        """Rows that were fetched and not yet run."""

    @property
    def prefetched(self) -> bool:
        """Whether rows were fetched while the last batch ran."""

    @property
    def handler_s(self) -> float:
        """Moving average of the handler's time for a batch; 0.0 before the first."""

    def fetch(self, outgoing: list[Command], /) -> None:
        """Sends `outgoing`, then waits up to a second for rows. For a source that holds none."""

    def refresh(self, outgoing: list[Command], /) -> None:
        """Sends `outgoing` and fetches rows that are more urgent than the held ones, without waiting."""

    def take(self) -> list[Request]:
        """The next batch; empty if no rows came. May wait for more rows, if the model's settings allow it."""

    def take_now(self, room: int, /) -> list[Request]:
        """Rows that join live ones: up to `room`, without waiting."""

    def ask(self, room: int, /) -> list[Command]:
        """The commands that fetch rows for so much room while the handler runs, for `accept`."""

    def accept(self, replies: Sequence[Reply], /) -> None:
        """Takes the replies of the commands of `ask`."""

    def run_handler(self, handler: Callable[[], T], /) -> T:
        """Runs the handler on the batch that was taken last; may fetch and give back rows meanwhile."""

    def raise_failure(self) -> None:
        """Raises the error of a fetch during `run_handler`, after the caller has kept the result."""

    def reset(self) -> None:
        """Forgets the held rows: the caller has moved them back to the queue, on a new connection."""

    def adopt(self, running: Iterable[EntryRef], /) -> None:
        """Keeps the held rows on a new connection, and takes up those that were lost with the old one.

        `running`: the entries that were taken and are not acknowledged yet.
        """
