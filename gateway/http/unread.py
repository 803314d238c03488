"""The answers that clients have not read yet: their memory is bounded over all connections of a gateway."""

import asyncio


class UnreadAnswers:
    """Counts them for each connection. Above `most` bytes, the connections that wait longest are ended."""

    def __init__(self, most: int) -> None:
        self._most, self._total = most, 0
        self._sizes: dict[asyncio.Transport, int] = {}  # the longest waiting first

    def add(self, transport: asyncio.Transport) -> None:
        """The transport's client reads more slowly than it is sent to."""
        self.remove(transport)
        self._sizes[transport] = size = transport.get_write_buffer_size()
        self._total += size
        while self._total > self._most and len(self._sizes) > 1:
            oldest = next(iter(self._sizes))
            self.remove(oldest)
            oldest.abort()

    def remove(self, transport: asyncio.Transport) -> None:
        """The client has read it, or has gone."""
        self._total -= self._sizes.pop(transport, 0)
