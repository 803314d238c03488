"""The other side of the queue: a replica in a thread, without a handler."""

import threading
import time
from collections.abc import Callable
from typing import Any

from marq import keys
from marq.connections.blocking import Connection
from marq.payloads import body_keys
from marq.queue.entries import Request, decode
from marq.queue.publishing import Publisher
from marq.queue.replies.entries import Reply
from marq.registry.spec import ModelSpec

Answer = Callable[[Request], Reply]


def make_spec(name: str = "echo", version: str = "1.0", **settings: Any) -> ModelSpec:
    return ModelSpec(name, version, f"{name}.mar", f"/store/{name}.mar", "handler.py", **settings)


def echo(request: Request) -> Reply:
    return Reply(request.id, 200, request.body, b'{"content-type": "%s"}' % request.type)


class ThreadReplica:
    """Takes requests in batches and publishes their answers, like a replica without a handler."""

    def __init__(self, url: str, spec: ModelSpec, answer: Answer) -> None:
        self._url, self._spec, self._answer = url, spec, answer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        connection, publisher = Connection(self._url), Publisher(self._spec, "cpu")
        lanes = keys.lanes(self._spec.name, self._spec.version)
        read = (
            "XREADGROUP", "GROUP", keys.GROUP, "thread", "COUNT", 100, "BLOCK", 20,
            "STREAMS", *lanes, *(">" for _ in lanes),
        )  # fmt: skip
        while not self._stopping.is_set():
            for lane, entries in connection.execute(*read) or ():
                requests = [decode(lane.decode(), *entry) for entry in entries]
                if keyed := [each for each in requests if each.body_ref]:
                    body_keys.load(connection, keyed)
                answers = [(request, self._answer(request)) for request in requests]
                connection.pipeline(publisher.commands(answers, int(time.time() * 1000)))
        connection.close()
