"""Where a running handler's parts go, and where it learns that nobody wants them any more."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from marq import keys
from marq.connections.background import Sender
from marq.queue.entries import Request
from marq.queue.publishing import Answer, Publisher


class Outlet:
    """Sends parts through the sender; `sign` is told of each as a sign of life."""

    def __init__(
        self, sender: Sender, publisher: Publisher, sign: Callable[[Sequence[Request]], None]
    ) -> None:
        self._sender, self._publisher, self._sign = sender, publisher, sign

    def send(self, answers: list[Answer]) -> None:
        self._sign([request for request, _ in answers])
        self._sender.send(self._publisher.parts(answers))

    def find_gone(self, requests: Sequence[Request], gone: set[bytes]) -> None:
        """Adds the ids of requests that were cancelled to `gone`, a little later: their entries are no longer
        pending."""
        for request in requests:
            command = ("XPENDING", request.lane, keys.GROUP, request.entry, request.entry, 1)
            self._sender.ask(command, partial(_note, request, gone))


def _note(request: Request, gone: set[bytes], pending: Any) -> None:
    if pending == []:
        gone.add(request.id)
