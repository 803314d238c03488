"""`marq logs`."""

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from marq.cli import model_names, options
from marq.cli.output import complain, fail
from marq.logs import MODEL_LOG

POLL_S = 0.2
LINE = re.compile(
    r"(?P<time>\S+(?: [\d:,]+)?) \[(?P<level>\w+) *\] .*?"
    r"\[(?P<pool>[^\[\]]+)/(?P<slot>\d+) pid (?P<pid>\d+)\] (?P<message>.*)"
)


def logs(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Only this model.", autocompletion=model_names.complete),
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Follow the log: print new lines as they are written.")
    ] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", metavar="N", min=0, help="Start with the last N lines.")
    ] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    state_dir: options.StateDir = None,
) -> None:
    """Print the output of handlers on this host.

    Ctrl-C ends --follow.
    """
    path = _directory(state_dir) / MODEL_LOG
    if not path.is_file():
        fail(f"{path} does not exist: no model has run here yet.")
    versions = [] if model is None else _versions(model, state_dir)
    wanted = _filter(model, versions)
    if model is not None and not versions and not any(map(wanted, _written(path))):
        text = f"{path} has no line of a model {model}, and no model of that name is registered here."
        if not follow:
            fail(text)
        complain(text, "Note", "yellow")
    show = _as_json if as_json else str
    with suppress(KeyboardInterrupt):
        for line in _lines(path, wanted, lines, follow):
            typer.echo(show(line))


def _directory(state_dir: Path | None) -> Path:
    """The log directory of the server on this host, also after the server has ended."""
    from marq.host import server_file
    from marq.settings import loading

    with suppress(server_file.ServerNotFound):
        return Path(server_file.find(state_dir).log_dir)
    given = {"state_dir": server_file.state_dir(state_dir)}
    return loading.load(**given).log_dir


def _lines(path: Path, wanted: Callable[[str], bool], last: int, follow: bool) -> Iterator[str]:
    """The last lines, then new lines, also after a rotation of the file."""
    file = path.open(encoding="utf-8", errors="replace")
    yield from deque(filter(wanted, (line.rstrip("\n") for line in file)), maxlen=last)
    part = ""
    while follow:
        for text in file:
            part += text
            if part.endswith("\n"):
                if wanted(part):
                    yield part.rstrip("\n")
                part = ""
        with suppress(FileNotFoundError):
            if not path.samefile(f"/dev/fd/{file.fileno()}"):
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
                continue
        time.sleep(POLL_S)


def _written(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from file


def _filter(model: str | None, versions: list[str]) -> Callable[[str], bool]:
    """Whether a line is of the model: its pools are called MODEL-VERSION@HOST."""
    if model is None:
        return lambda _: True
    which = "|".join(map(re.escape, versions)) if versions else "[^@/]+"
    of_model = re.compile(rf"\[{re.escape(model)}-(?:{which})@[^\[\]]*/\d+ pid \d+\]")
    return lambda line: bool(of_model.search(line))


def _versions(model: str, state_dir: Path | None) -> list[str]:
    """The registered versions; none if the server does not answer or the model is not registered any more."""
    import redis

    from marq.connections import clients
    from marq.errors import MarqError
    from marq.host import server_file
    from marq.registry.models import Registry

    try:
        with clients.client(server_file.find(state_dir).redis_url) as client:
            return list(Registry(client).models().versions(model))
    except (MarqError, redis.RedisError):
        return []


def _as_json(line: str) -> str:
    if line.startswith("{"):
        return line
    match = LINE.match(line)
    fields: Mapping[str, object] = match.groupdict() if match else {"message": line}
    return json.dumps(fields, ensure_ascii=False)
