"""The handlers that are served while things break, packed as archives."""

import json
from pathlib import Path
from typing import Any

from archive.packing.writer import ArchiveSpec, write

STEPS = (
    "before take", "after take", "before run", "after run", "before publish", "after publish",
    "after acknowledge", "after all was sent",
)  # fmt: skip

# Answers with squares. Notes what it runs in a file; "poison" ends its replica.
SQUARE = """
import os
import signal
import time


class Square:
    def initialize(self, context):  # noqa: ARG002
        config = context.model_yaml_config["handler"]
        self.runs = os.open(config["runs"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.seconds = config["seconds"]

    def handle(self, data, context):  # noqa: ARG002
        texts = [row.get("body") for row in data]
        numbers = [number(text) for text in texts]
        os.write(self.runs, "".join(f"{n}\\n" for n in numbers if n is not None).encode())
        if any(isinstance(text, str) and text.endswith("poison") for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return ["none" if n is None else answer(n, text) for n, text in zip(numbers, texts)]


def answer(n, text):  # as large as the body
    return str(n ** 2).ljust(len(text)) if isinstance(text, str) else n ** 2


def number(text):
    try:
        return int(text.split()[0])
    except Exception:
        return None  # noqa: RET501
"""

# The same, in a replica that ends at one exact moment of its work, another one in each life.
MORTAL = """
import os
import signal

from marq.queue import scripts
from marq.connections.blocking import Connection

BATCHES = 20  # answered before the end: more than the rows of one batch, which run alone after an end

write, read = Connection._write, Connection.read


def kind(command):
    if command[0] in ("XACK", "XADD", "XREADGROUP"):
        return command[0]
    return "PUBLISH" if command[:2] == ("EVALSHA", scripts.PUBLISH) else ""


class Square:
    def initialize(self, context):  # noqa: ARG002
        config = context.model_yaml_config["handler"]
        self.runs = os.open(config["runs"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.batches, self.path = 0, config["ends"]
        with open(self.path, "a+") as file:  # a line for each life so far, and one for each end
            file.seek(0)
            life = sum(line == "life\\n" for line in file)
            self.step = config["steps"][life % len(config["steps"])]
            file.write("life\\n")
        self.patch()

    def at(self, step):
        if self.batches >= BATCHES and step == self.step:
            with open(self.path, "a") as file:
                file.write(step + "\\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def patch(self):
        def dying_write(connection, commands):
            kinds = [kind(command) for command in commands]
            if "XREADGROUP" in kinds and self.step == "before take":
                write(connection, commands[: kinds.index("XREADGROUP")])
                self.at("before take")
                return write(connection, commands[kinds.index("XREADGROUP") :])
            if "XACK" in kinds or "PUBLISH" in kinds:
                self.at("before publish")
                if "XADD" in kinds and self.step == "after publish":
                    write(connection, commands[: kinds.index("XADD") + 1])
                    self.at("after publish")
                    return write(connection, commands[kinds.index("XADD") + 1 :])
                if "XACK" in kinds and self.step == "after acknowledge":
                    write(connection, commands[: kinds.index("XACK") + 1])
                    self.at("after acknowledge")
                    return write(connection, commands[kinds.index("XACK") + 1 :])
                write(connection, commands)
                return self.at("after all was sent")
            write(connection, commands)

        def dying_read(connection, *arguments):
            reply = read(connection, *arguments)
            if reply:
                self.at("after take")
            return reply

        Connection._write, Connection.read = dying_write, dying_read

    def handle(self, data, context):  # noqa: ARG002
        self.at("before run")
        numbers = [int(row["body"]) for row in data]
        os.write(self.runs, "".join(f"{number}\\n" for number in numbers).encode())
        self.at("after run")
        self.batches += 1
        return [number ** 2 for number in numbers]
"""

# Answers with the size and the digest of what it gets.
DIGEST = """
import hashlib


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    if data is None:
        return None  # noqa: RET501
    return [f"{len(row['body'])} {hashlib.sha256(row['body']).hexdigest()}" for row in data]
"""

# Answers with squares; "17 hold 3" takes 3 s. Each replica starts processes that would outlive it.
FORKING = """
import os
import subprocess
import time

runs = None
SLEEP = ["/bin/sleep", "86400"]
EVERY = 20  # batches


def handle(data, context):
    global runs, batches
    config = context.model_yaml_config["handler"]
    if runs is None:
        runs, batches = os.open(config["runs"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), 0
    if data is None:
        return None
    batches += 1
    if batches % EVERY == 1:
        start_all(config["children"])
    words = [row["body"].split() for row in data]
    os.write(runs, "".join(f"{each[0]}\\n" for each in words).encode())
    time.sleep(max(float(each[2]) if each[1:2] == ["hold"] else 0.005 for each in words))
    return [int(each[0]) ** 2 for each in words]


def start_all(children):
    if not children:
        return
    file = os.open(children, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for options in ({}, {"start_new_session": True}, {"start_new_session": True, "env": {}}):
        os.write(file, f"{subprocess.Popen(SLEEP, **options).pid}\\n".encode())
    daemon = os.fork()
    if daemon == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(file, f"{os.getpid()}\\n".encode())
            os.execve(SLEEP[0], SLEEP, {})
        os._exit(0)
    os.waitpid(daemon, 0)
    os.close(file)
"""

# Answers with squares, also as a model of OpenAI's API; "17 fails at first" fails with 503 once.
KEPT = """
import os


def handle(data, context):
    if data is None:
        return None
    return [answer(row["body"], index, context) for index, row in enumerate(data)]


def answer(body, index, context):
    if isinstance(body, dict):
        text = str(int(body["messages"][-1]["content"]) ** 2)
        choices = [{"index": 0, "message": {"role": "assistant", "content": text}}]
        return {"id": "x", "object": "chat.completion", "model": "kept", "choices": choices}
    number, *words = str(body).split()
    if words and is_first(os.path.join(context.model_yaml_config["handler"]["tried"], number)):
        context.set_response_status(503, "", index)
        return "not yet"
    return str(int(number) ** 2)


def is_first(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        return True
    except FileExistsError:
        return False
"""


def pack_all(store: Path, sources: Path, directory: Path) -> None:
    """Packs all models. Their handlers write files in `directory`, see RUNS, ENDS and CHILDREN."""
    runs, ends, children = directory / RUNS, directory / ENDS, directory / CHILDREN
    square = {"batchSize": 8, "maxBatchDelay": 5, "jobQueueSize": 100_000}
    handler = {"runs": str(runs), "ends": str(ends), "steps": STEPS, "seconds": 0.005}
    _pack(store, sources, "square", SQUARE, {**square, **_replicas(3), "handler": handler})
    _pack(store, sources, "fragile", SQUARE, {**square, **_replicas(2), "batchSize": 32, "handler": handler})
    _pack(store, sources, "steps", MORTAL, {**square, **_replicas(2), "handler": handler})
    slow = {**square, **_replicas(1), "jobQueueSize": LIMIT, "handler": {**handler, "seconds": 0.1}}
    _pack(store, sources, "limited", SQUARE, slow)
    _pack(store, sources, "digest", DIGEST, _replicas(1))
    forking = {**square, "handler": {"runs": str(runs), "children": str(children)}}
    _pack(store, sources, "forking", FORKING, {**forking, **_replicas(2)})
    plain = {**forking, "handler": {"runs": str(runs), "children": ""}}
    _pack(store, sources, "leaving", FORKING, {**plain, **_replicas(2)})
    kept = {"batchSize": 8, "jobQueueSize": 100_000, **_replicas(2)}
    _pack(store, sources, "kept", KEPT, {**kept, "handler": {"tried": str(directory / "tried")}})
    _pack(store, sources, "holding", FORKING, {**plain, **_replicas(8), "batchSize": 1})


RUNS = "runs"  # gets a line for each row that is run
ENDS = "ends"  # gets some for each life of a replica of `steps`
CHILDREN = "children"  # gets the process id of each process that `forking` has started
LIMIT = 100  # predictions that may wait for the model `limited`
JOB_LIMIT = 200  # requests that may wait for it before jobs are refused
MODELS = {"square": 3, "fragile": 2, "steps": 2, "limited": 1, "digest": 1}  # and their replicas
LATER = {"forking": 2, "leaving": 2, "holding": 8, "kept": 2}  # those that cases register themselves


def _replicas(number: int) -> dict[str, int]:
    return {"minWorkers": number, "maxWorkers": number}


def _pack(store: Path, sources: Path, name: str, source: str, config: dict[str, Any]) -> None:
    sources.mkdir(parents=True, exist_ok=True)
    store.mkdir(parents=True, exist_ok=True)
    handler, settings = sources / f"{name}_handler.py", sources / f"{name}.yaml"
    handler.write_text(source)
    settings.write_text(json.dumps(config))  # JSON is YAML
    write(
        ArchiveSpec(
            model_name=name, handler=str(handler), version="1.0", export_path=store, force=True,
            config_file=str(settings),
        )
    )  # fmt: skip
