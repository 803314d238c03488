"""Dead letters: requests that were given up, and malformed entries. They are shown, replayed and deleted."""

import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.errors import Conflict, MalformedEntry, ResourceNotFound, ServiceError
from marq.payloads import job_files
from marq.payloads.body_keys import MOST_INLINE
from marq.payloads.files import PayloadLost
from marq.payloads.job_files import JobFiles
from marq.queue import scripts
from marq.queue.entries import decode
from marq.queue.giving_up import ABOUT
from marq.queue.ids import JobId, new_id
from marq.registry.models import Registry
from marq.registry.snapshot import Models

PAGE = 1000  # letters that are read at once
ID = "^[0-9]{1,19}-[0-9]{1,19}$"  # of a letter: the id of a stream entry
NOT_REPLAYED = frozenset((b"id", b"deadline", b"reply", b"replies", b"body_ref"))  # of the first request


@dataclass(frozen=True)
class Letter:
    """One dead letter without its body. `request`: the fields of its entry."""

    id: str
    about: dict[str, str]  # see giving_up.ABOUT
    request: dict[bytes, bytes]
    size: int | None  # of the body; None without a body

    @property
    def died(self) -> float:
        """Unix seconds."""
        return int(self.id.partition("-")[0]) / 1000

    @property
    def version(self) -> str:
        return self.about.get("version", "")

    @property
    def fields(self) -> dict[str, str]:
        """The entry's own fields as text."""
        return {_text(name): _text(value) for name, value in self.request.items()}

    @property
    def request_id(self) -> str:
        return self.fields.get("id") or self.about.get("entry", "")

    @property
    def file(self) -> bytes:
        """The reference of the body, if it is a file of jobs; else empty."""
        ref = self.request.get(b"body_ref", b"")
        return ref if job_files.is_ref(ref) else b""

    @property
    def replay_of(self) -> str:
        """The id that the request had before it was replayed; empty if it never was."""
        return self.fields.get("replay_of", "")

    @property
    def obstacle(self) -> str:
        """Why it cannot be replayed; empty if it can."""
        kept = {name: value for name, value in self.request.items() if name not in NOT_REPLAYED}
        body = {} if self.size is None and not self.file else {b"body": b""}
        try:
            decode("", b"", [part for pair in (kept | body).items() for part in pair])
        except MalformedEntry as error:
            return error.reason
        return ""


@dataclass(frozen=True)
class Summary:
    """All dead letters of a model. Times are unix seconds."""

    model: str
    count: int
    bytes: int  # of Redis's memory
    oldest: float
    newest: float


@dataclass
class Replayed:
    """The outcome of a replay."""

    jobs: dict[str, str] = field(default_factory=dict)  # letter -> public id of the job
    refused: dict[str, ServiceError] = field(default_factory=dict)


class DeadLetters:
    """The dead letters of all models; may be used by several threads. Raises redis.RedisError.

    Bodies stay in Redis unless they are asked for.
    """

    def __init__(self, client: RedisClient) -> None:
        self._redis, self._registry = client, Registry(client)

    def summaries(self) -> list[Summary]:
        """The summaries of all models that have dead letters, sorted by name."""
        return [summary for model in sorted(self._models()) if (summary := self.summary(model))]

    def summary(self, model: str) -> Summary | None:
        """The summary of one model; None if it has no dead letters."""
        key = keys.dead_letters(model)
        oldest, newest = self._read(model, "XRANGE", "-", "+", 1), self.page(model, 1)
        used = self._redis.memory_usage(key, samples=0)
        if not (oldest and newest and used):
            return None
        return Summary(model, self._redis.xlen(key), used, oldest[0].died, newest[0].died)

    def page(self, model: str, limit: int, before: str = "") -> list[Letter]:
        """A page of letters, the newest first; `before`: only letters that are older than this one."""
        return self._read(model, "XREVRANGE", f"({before}" if before else "+", "-", limit)

    def ids(self, model: str) -> list[str]:
        """The ids of all letters, the oldest first."""
        found: list[str] = []
        while page := self.page(model, PAGE, found[-1] if found else ""):
            found += [letter.id for letter in page]
        return found[::-1]

    def get(self, model: str, letter_id: str) -> Letter:
        """One letter. Raises ResourceNotFound."""
        if re.fullmatch(ID, letter_id) and (found := self._read(model, "XRANGE", letter_id, letter_id, 1)):
            return found[0]
        raise ResourceNotFound(f"Dead letter not found: {letter_id} of model {model}")

    def body(self, model: str, letter_id: str) -> bytes:
        """The body of a letter. Raises ResourceNotFound, also for a letter without a body, and PayloadLost
        where its file is on another host."""
        letter = self.get(model, letter_id)
        if letter.file:
            return bytes(self._files_of(letter).load(letter.file))
        found = self._redis.xrange(keys.dead_letters(model), letter_id, letter_id)
        if not found or b"body" not in found[0][1]:
            raise ResourceNotFound(f"Dead letter {letter_id} of model {model} has no body.")
        return bytes(found[0][1][b"body"])

    def replay(self, model: str, ids: Iterable[str], version: str | None = None) -> Replayed:
        """Queues requests again, each as a new job, and removes their letters: each in one atomic step.

        They go to the version that they were sent to, or to `version`. Raises ModelNotFound or
        ModelVersionNotFound for an unknown `version`.
        """
        models, done = self._registry.models(), Replayed()
        if version is not None:
            models.get(model, version)
        for letter_id in ids:
            try:
                done.jobs[letter_id] = self._replay_one(models, model, letter_id, version)
            except ServiceError as error:
                done.refused[letter_id] = error
        return done

    def _replay_one(self, models: Models, model: str, letter_id: str, version: str | None) -> str:
        letter = self.get(model, letter_id)
        if reason := letter.obstacle:
            raise Conflict(f"Dead letter {letter_id} is not a request that can run: {reason}.")
        target = models.get(model, version or letter.version).version
        request_id = new_id().decode()
        replay = scripts.REPLAY.call(
            [keys.dead_letters(model), keys.lane(model, target), keys.job(model, request_id)],
            letter_id, 2 * len(letter.about), request_id, target, int(time.time() * 1000),
            letter.replay_of or letter.request_id, MOST_INLINE,
        )  # fmt: skip
        if not clients.run(self._redis, replay):
            raise ResourceNotFound(f"Dead letter {letter_id} has just been replayed or deleted.")
        return str(JobId(model, request_id))

    def delete(self, model: str, ids: Iterable[str]) -> int:
        """Deletes letters; returns how many of them existed."""
        known = [letter_id for letter_id in ids if re.fullmatch(ID, letter_id)]
        return int(self._redis.xdel(keys.dead_letters(model), *known)) if known else 0

    def delete_all(self, model: str) -> int:
        """Deletes all letters; returns how many there were. The stream stays, with its count of letters."""
        return int(self._redis.xtrim(keys.dead_letters(model), maxlen=0, approximate=False))

    def _models(self) -> Iterator[str]:
        """The models with a stream of dead letters, registered or not."""
        before, after = keys.dead_letters("*").split("*")
        for key in self._redis.scan_iter(match=keys.dead_letters("*"), count=PAGE, _type="stream"):
            model = key.decode().removeprefix(before).removesuffix(after)
            if not set("{}") & set(model):  # else it is a lane of a version that is named like this
                yield model

    def _read(self, model: str, order: str, start: str, end: str, limit: int) -> list[Letter]:
        read = scripts.LETTERS.call([keys.dead_letters(model)], order, start, end, limit)
        found = clients.run(self._redis, read)
        return [self._with_size(_letter(*each)) for each in found]

    def _with_size(self, letter: Letter) -> Letter:
        """With the size of a body that is a file, if that is on this host."""
        if not letter.file:
            return letter
        try:
            return replace(letter, size=Path(self._files_of(letter).path(letter.file)).stat().st_size)
        except (OSError, PayloadLost):
            return letter

    def _files_of(self, letter: Letter) -> JobFiles:
        """Raises PayloadLost."""
        return JobFiles.found(self._redis.hget(keys.JOB_STORES, job_files.store_of(letter.file)))


def _letter(entry: bytes, size: int, flat: list[bytes]) -> Letter:
    pairs = list(zip(flat[::2], flat[1::2], strict=True))
    known = 0
    while known < min(len(pairs), len(ABOUT)) and pairs[known][0] == ABOUT[known].encode():
        known += 1
    about = {name.decode(): _text(value) for name, value in pairs[:known]}
    return Letter(entry.decode(), about, dict(pairs[known:]), None if size < 0 else size)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
