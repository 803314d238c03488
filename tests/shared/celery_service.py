"""A service that has Celery and nothing of marq: its process runs the code that tests give it.

Run as a program it is that service: each line of its input is JSON, `[code, arguments]`, the body of a
function; each line of its output is `[result, class of the exception, its text]`.
"""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any


class TaskError(Exception):
    """Raised for an exception of the service: the name of its class, and its text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text = kind, text


class CeleryService:
    """The running service. `run` executes the body of a function there."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, code: str, **arguments: Any) -> Any:
        """What the code returns. Raises TaskError."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps([textwrap.dedent(code), arguments]) + "\n")
        self._process.stdin.flush()
        result, kind, text = json.loads(self._process.stdout.readline())
        if kind:
            raise TaskError(kind, text)
        return result


@contextlib.contextmanager
def celery_service(broker: str, backend: str, **conf: Any) -> Iterator[CeleryService]:
    """Starts a service; tasks of marq go to the queue `marq`."""
    conf = {
        "task_routes": {"marq.*": {"queue": "marq"}},
        "broker_url": broker,
        "result_backend": backend,
        **conf,
    }
    process = subprocess.Popen(
        [sys.executable, "-I", __file__, json.dumps(conf)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield CeleryService(process)
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(60)


def _serve(conf: dict[str, Any]) -> None:
    import celery
    from celery import chain, chord, group

    app = celery.Celery("service")
    app.conf.update(conf)

    def predict(*args: Any, **kwargs: Any) -> Any:
        return app.signature("marq.predict", args=args, kwargs=kwargs)

    names = {"app": app, "chain": chain, "chord": chord, "group": group, "celery": celery, "predict": predict}
    for line in sys.stdin:
        code, arguments = json.loads(line)
        scope = {**names, **arguments}
        try:
            exec("def run():\n" + textwrap.indent(code, "    "), scope)
            answer = [scope["run"](), "", ""]
            assert "marq" not in sys.modules
        except Exception as error:
            answer = [None, type(error).__name__, str(error)]
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
    os._exit(0)  # Celery complains when its results are collected after its modules
