"""The interface between the intake and a broker."""

from collections.abc import Sequence
from typing import Protocol

from bridge.messages import Junk, Message

AT_ONCE = 500  # messages that are taken together
WAIT_S = 0.25  # for the first message


class Source(Protocol):
    """Messages of one queue. Any method may raise an error of the connection; after `close` it starts again,
    and messages that were not confirmed come again."""

    def take(self) -> Sequence[Message | Junk]:
        """The next messages; waits a moment for the first."""

    def confirm(self) -> None:
        """The messages that were taken last are queued: the broker forgets them."""

    def close(self) -> None: ...
