"""Sends parts and progress while the handler runs, and finds out which requests were cancelled."""

from collections.abc import Callable, Sequence
from functools import partial

from marq import keys
from marq.connections.background import Sender
from marq.queue.entries import Request
from marq.queue.job_records import Progress
from marq.queue.publishing import Answer, Publisher


class PartSender:
    """Sends parts through the sender; calls `sign` with their requests, as each part is a sign of life."""

    def __init__(
        self, sender: Sender, publisher: Publisher, sign: Callable[[Sequence[Request]], None]
    ) -> None:
        self._sender, self._publisher, self._sign = sender, publisher, sign

    def send(self, answers: list[Answer]) -> None:
        self._sign([request for request, _ in answers])
        self._sender.send(self._publisher.parts(answers))

    def report(self, reports: Sequence[tuple[Request, Progress]]) -> None:
        self._sign([request for request, _ in reports])
        self._sender.send(self._publisher.progress(reports))

    def find_gone(self, requests: Sequence[Request], gone: set[bytes]) -> None:
        """Adds the ids of cancelled requests to `gone` when Redis answers: their entries are not pending."""
        for request in requests:
            command = ("XPENDING", request.lane, keys.GROUP, request.entry, request.entry, 1)
            self._sender.ask(command, partial(_note, request, gone))


def _note(request: Request, gone: set[bytes], pending: object) -> None:
    if pending == []:
        gone.add(request.id)
