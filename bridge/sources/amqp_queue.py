"""A queue of RabbitMQ, or of another broker that speaks AMQP 0.9.1."""

from collections.abc import Sequence
from typing import Any

from celery import Celery

from bridge.messages import Junk, Message
from bridge.sources.source import AT_ONCE, WAIT_S

HEARTBEAT_S = 30.0
MORE_S = 0.002  # for each further message


class AmqpQueue:
    """The messages of one queue. A queue that exists is used as it was declared."""

    def __init__(self, app: Celery, queue: str) -> None:
        self._app, self._name = app, queue
        self._connection: Any = None
        self._channel: Any = None
        self._held: list[Message | Junk] = []
        self._last: Any = None  # the tag of the last message that is held

    def take(self) -> Sequence[Message | Junk]:
        if self._connection is None:
            self._open()
        self._connection.heartbeat_check()
        try:
            while len(self._held) < AT_ONCE:
                self._connection.drain_events(timeout=MORE_S if self._held else WAIT_S)
        except TimeoutError:
            pass
        return self._held

    def confirm(self) -> None:
        if self._held:
            self._channel.basic_ack(self._last, multiple=True)
        self._held, self._last = [], None

    def close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._held, self._last = [], None
        if connection is not None:
            connection.release()

    def _open(self) -> None:
        self._connection = self._app.connection_for_read(heartbeat=HEARTBEAT_S)
        self._connection.connect()
        queue = self._app.amqp.queues[self._name]
        try:
            channel = self._connection.channel()
            queue.bind(channel).queue_declare(passive=True)
        except self._connection.channel_errors:
            channel = self._connection.channel()
            queue.bind(channel).declare()
        channel.basic_qos(0, AT_ONCE, False)
        self._channel = channel
        consumer = self._connection.Consumer(
            queue, channel=channel, auto_declare=False, on_message=self._hold
        )
        consumer.consume()

    def _hold(self, message: Any) -> None:
        self._last = message.delivery_tag
        properties, body = message.properties, message.body
        self._held.append(
            Message(
                body.encode() if isinstance(body, str) else bytes(body),
                message.content_type or "",
                message.content_encoding or "utf-8",
                message.headers or {},
                properties.get("correlation_id"),
                properties.get("reply_to"),
                properties.get("priority"),
            )
        )
