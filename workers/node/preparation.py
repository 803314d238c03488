"""Prepares models on this host: unpacks archives, installs dependencies, deletes unused ones."""

import contextlib
import logging
import sys
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from archive.errors import ArchiveError
from archive.reader import extract, own_copy, prune, unpacked_path
from marq import logs
from marq.registry.reports import PoolReport
from marq.registry.spec import ModelSpec
from marq.settings.fields import Settings
from workers.node.installation import Dependencies, Installed
from workers.pool.backoff import Failures

log = logging.getLogger(__name__)

AT_A_TIME = 4  # a long installation must not hold up other models
RETRY_S = (1, 2, 5, 10, 30, 60)  # after the first failed attempt, the second, ...
UNUSED_S = 24 * 3600.0  # files without a user for this time are deleted


class UnpackingFailed(Exception):
    """Raised when an archive cannot be read, or written to this host's disk."""


@dataclass(frozen=True)
class Prepared:
    """The files of a model on this host."""

    unpacked: Path  # the archive's files as they are, for the model directory to be completed from
    model_dir: Path  # this model version's own
    dependencies: Installed | None = None

    @property
    def python(self) -> str:
        return self.dependencies.python if self.dependencies else sys.executable

    @property
    def paths(self) -> list[Path]:
        """The paths that replicas use."""
        return [self.unpacked, self.model_dir, Path(self.dependency_dir), Path(self.python)]

    @property
    def dependency_dir(self) -> str:
        return self.dependencies.directory if self.dependencies else ""


class Preparation:
    """The preparation of one model version; a failed attempt is repeated."""

    def __init__(self, spec: ModelSpec, submit: Callable[[], Future[Prepared]]) -> None:
        self.spec, self._submit = spec, submit
        self._running: Future[Prepared] | None = submit()  # None during the pause after a failure
        self._failures = Failures(pauses_s=RETRY_S)
        # Set by `advance` alone: an attempt that ends meanwhile must not change half of a comparison.
        self.prepared: Prepared | None = None
        self.reported = False  # whether the registry has the report of the success

    @property
    def settled(self) -> bool:
        """Whether it has succeeded or failed at least once."""
        return self.prepared is not None or self.failing

    @property
    def failing(self) -> bool:
        return self._failures.count > 0

    def advance(self) -> None:
        """Notes how an attempt ended, and starts the next one after the pause."""
        if self._running is None:
            if not self._failures.pausing:
                self._running = self._submit()
        elif self._running.done() and not self.prepared:
            self._note_end(self._running)

    def report(self, node: str, size: int) -> PoolReport:
        """The report of this model version while no pool of it runs on this host."""
        return PoolReport(
            node,
            wanted=0 if self.failing else size,
            failures=self._failures.count,
            failing_since=self._failures.since,
            reason=self._failures.reason,
            cannot_load=self._failures.is_repeated,
            preparing=not self.settled,
        )

    def _note_end(self, attempt: Future[Prepared]) -> None:
        if (error := attempt.exception()) is None:
            self.prepared = attempt.result()
            self._failures.forget()
            return
        self._running = None
        pause = self._failures.add(str(error))
        log.error("%s cannot be prepared: %s; next attempt in %d s", self.spec.key, error, pause)


class Preparations:
    """Prepares models in threads. `on_done` is called, in a thread, whenever an attempt has ended."""

    def __init__(self, config: Settings, on_done: Callable[[], None]) -> None:
        self._config, self._on_done = config, on_done
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="prepare")
        self._dependencies = Dependencies(
            config.dependencies_dir,
            logs.model_logger(config.log_dir / logs.MODEL_LOG, config.model_log_on_console),
        )

    def begin(self, spec: ModelSpec, label: str) -> Preparation:
        """Starts one; `label` marks its lines in the model log."""

        def submit() -> Future[Prepared]:
            future = self._threads.submit(self._prepare, spec, label)
            future.add_done_callback(lambda _: self._on_done())
            return future

        return Preparation(spec, submit)

    def tidy(self, specs: Collection[ModelSpec], used: Collection[Path]) -> None:
        """Deletes, in a thread, unpacked archives and dependencies that had no user for a day.

        Those of `specs` and the paths in `used` have one.
        """
        self._threads.submit(self._tidy, list(specs), list(used)).add_done_callback(_log_failure)

    def stop(self) -> None:
        """Ends the installations that run."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._dependencies.stop()

    def _prepare(self, spec: ModelSpec, label: str) -> Prepared:
        try:
            unpacked = extract(Path(spec.archive), self._config.unpacked_dir)
            model_dir = own_copy(unpacked, self._config.model_dirs, label)
        except (ArchiveError, OSError) as error:
            raise UnpackingFailed(f"the archive cannot be unpacked: {error}") from error
        installed = self._dependencies.install(spec, model_dir, label) if spec.has_dependencies else None
        return Prepared(unpacked, model_dir, installed)

    def _tidy(self, specs: list[ModelSpec], used: list[Path]) -> None:
        archives, dependencies = self._config.unpacked_dir, self._config.dependencies_dir
        kept = list(used)
        for spec in specs:
            with contextlib.suppress(ArchiveError, OSError):  # its archive is not on this host
                kept.append(unpacked_path(Path(spec.archive), archives))
        copies = prune(self._config.model_dirs, used, UNUSED_S)
        for path in (*prune(archives, kept, UNUSED_S), *copies, *prune(dependencies, used, UNUSED_S)):
            log.info("deleted %s, which had no user for a day", path)


def _log_failure(future: Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()):
        log.warning("unused archives and dependencies cannot be deleted: %s", error)
