"""Celery's remote control: `revoke`, and `ping`."""

import logging
import socket
from typing import Any

from celery import Celery

from bridge.revoking import Revoker

log = logging.getLogger(__name__)
WAIT_S = 0.5


class Control:
    """Reads the commands that Celery's clients send to all workers. For one thread. Raises errors of the
    connections: then call `close`, and `step` again."""

    def __init__(self, app: Celery, revoker: Revoker, queue: str) -> None:
        self._app, self._revoker = app, revoker
        self._name = f"marq-bridge-{queue}@{socket.gethostname()}"
        self._connection: Any = None

    def step(self) -> None:
        """Carries out the commands that have come; returns after a moment."""
        if self._connection is None:
            self._open()
        try:
            self._connection.drain_events(timeout=WAIT_S)
        except TimeoutError:
            self._connection.heartbeat_check()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def _open(self) -> None:
        self._connection = self._app.connection_for_read(heartbeat=30)
        channel = self._connection.channel()
        handlers = {"revoke": self._revoke, "terminate": self._terminate, "ping": self._ping}
        node = self._app.control.mailbox(self._connection).Node(
            self._name, state=None, channel=channel, handlers=handlers
        )
        node.listen(channel=channel, callback=lambda body, message: self._handle(node, body, message))

    def _handle(self, node: Any, body: Any, message: Any) -> None:
        if isinstance(body, dict) and body.get("method") in node.handlers:
            node.handle_message(body, message)  # others are for workers of Celery

    def _revoke(self, _: Any, task_id: Any, terminate: bool = False, **__: Any) -> dict[str, Any]:
        ids = [task_id] if isinstance(task_id, str) else list(task_id or ())
        self._revoker.revoke([str(name) for name in ids], bool(terminate))
        return {"ok": f"tasks {', '.join(map(str, ids))} revoked"}

    def _terminate(self, state: Any, task_id: Any = None, **_: Any) -> dict[str, Any]:
        return self._revoke(state, task_id, terminate=True)

    def _ping(self, _: Any, **__: Any) -> dict[str, str]:
        return {"ok": "pong"}
