"""One batch of a model in this process: `python -m workers.foreground`, which `marq run` becomes.

The answers go to stdout, everything that the handler prints to stderr.
"""

import argparse
import asyncio
import contextlib
import logging
import mimetypes
import pdb
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from archive.errors import ArchiveError
from archive.reader import extract, own_copy
from marq import gpus
from marq.control.registration import Registration, resolve
from marq.errors import MarqError
from marq.queue.entries import Request
from marq.queue.job_records import Progress
from marq.queue.replies.entries import Reply
from marq.settings import loading
from ts.context import Context
from workers import devices
from workers.handler import log_lines, traces
from workers.handler.call import Handle
from workers.handler.loader import LoadError, load_replica
from workers.handler.measurements import Collector
from workers.handler.rows import Row
from workers.launch import PoolSpec, ReplicaSpec
from workers.node.installation import Dependencies, InstallationFailed

FAILED = 1


class Watched(Collector):
    """Keeps the exception that the handler has raised."""

    error: BaseException | None = None

    def timed(self, handle: Handle, is_coroutine: bool = False) -> Handle:
        def call(data: list[Row], context: Context) -> object:
            try:
                return handle(data, context)
            except BaseException as error:
                self.error = error
                raise

        async def await_call(data: list[Row], context: Context) -> object:
            try:
                return await handle(data, context)
            except BaseException as error:
                self.error = error
                raise

        return super().timed(await_call if is_coroutine else call, is_coroutine)


class Parts:
    """Writes the parts of streamed answers as they come."""

    def send(self, answers: list[tuple[Request, Reply]], /) -> None:
        for _, reply in answers:
            _write(reply.body)

    def report(self, reports: list[tuple[Request, Progress]], /) -> None:
        for _, progress in reports:
            print(f"{progress.fraction:.0%} {progress.message}".rstrip(), file=sys.stderr)  # noqa: T201

    def find_gone(self, requests: Sequence[Request], gone: set[bytes], /) -> None:
        """All of them are wanted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 if each request has an answer below 400."""
    options = _parser().parse_args(arguments)
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(log_lines.TraceFormatter("%(levelname)s %(message)s"))
    logging.basicConfig(handlers=[console], level=logging.INFO)
    try:
        with tempfile.TemporaryDirectory(prefix="marq-run-") as directory:
            return _run(options, Path(directory))
    except (MarqError, ArchiveError, InstallationFailed, OSError) as error:
        _say(f"Error: {error}")
        return FAILED


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="marq run")
    made.add_argument("archive", type=Path)
    made.add_argument("files", type=Path, nargs="+")
    made.add_argument("--content-type", default="")
    made.add_argument("--pdb", action="store_true")
    return made


def _run(options: argparse.Namespace, directory: Path) -> int:
    requests = [_request(number, file, options.content_type) for number, file in enumerate(options.files)]
    replica = _replica(options.archive, directory)
    model = replica.pool.model
    collector = Watched(model)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    with contextlib.redirect_stdout(sys.stderr):
        began = time.monotonic()
        try:
            call = load_replica(replica, collector)
        except (LoadError, MemoryError, RuntimeError) as error:
            return _failed(error, options.pdb)
        call.part_sink = Parts()
        loaded = time.monotonic()
        if model.async_communication:
            replies = loop.run_until_complete(call.run_async(requests, model.response_timeout_s))
        else:
            replies = call.run(requests)
    ended = time.monotonic()
    if collector.error and options.pdb:
        _debug(collector.error)
    for file, reply in zip(options.files, replies, strict=True):
        if len(replies) > 1 or reply.status != 200:
            _say(f"{file}: status {reply.status}")
        _write(reply.body)
    _say(f"{model.name} {model.version} on {replica.device}: loaded in {loaded - began:.2f} s, "
         f"{len(replies)} answered in {ended - loaded:.3f} s")  # fmt: skip
    return 0 if all(reply.status < 400 for reply in replies) else FAILED


def _request(number: int, file: Path, content_type: str) -> Request:
    body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    now_ms = int(time.time() * 1000)
    kind = content_type or mimetypes.guess_type(file.name)[0] or ""
    return Request(f"{now_ms}-{number}".encode(), "run", body, f"run-{number}".encode(), kind.encode())


def _replica(archive: Path, directory: Path) -> ReplicaSpec:
    """The replica that a server would start for the archive. Raises MarqError and the errors of archives."""
    settings = loading.load(model_store=archive.absolute().parent)
    spec = resolve(settings, Registration(archive.name), loaded_at_startup=True)
    unpacked = extract(Path(spec.archive), directory / "models")
    model_dir = own_copy(unpacked, directory / "model-dirs", "run")
    packages = ""
    if spec.has_dependencies:
        dependencies = Dependencies(settings.dependencies_dir, logging.getLogger("install"))
        packages = dependencies.install(spec, model_dir, "run").directory
    visible = gpus.visible(settings.number_of_gpu)
    pool = PoolSpec(
        model=spec, node="run", owner="run", unpacked=str(unpacked), model_dir=str(model_dir), redis_url="",
        run_dir=str(directory), log_file=str(directory / "log"), gpus=visible, first_device=0,
        threads=devices.threads_per_replica(1), max_response_size=settings.max_response_size,
        job_result_ttl_ms=0, decode_input=settings.decode_input_request,
        max_form_fields=settings.max_form_fields,
        limit_max_image_pixels=settings.limit_max_image_pixels, dependency_dir=packages,
        metrics_config=str(settings.metrics_config or ""),
    )  # fmt: skip
    return ReplicaSpec(pool, 0, devices.device_for(spec, 0, visible, 0), "")


def _failed(error: BaseException, debug: bool) -> int:
    """Shows why the model cannot be loaded."""
    _say(traces.of(error))
    if debug:
        _debug(error)
    return FAILED


def _debug(error: BaseException) -> None:
    """The debugger, in the frame that has raised the first error."""
    with contextlib.redirect_stdout(sys.stderr):
        pdb.post_mortem(traces.innermost(error).__traceback__)


def _write(body: bytes) -> None:
    assert sys.__stdout__ is not None  # noqa: S101 - a command has one
    sys.__stdout__.buffer.write(body)
    if not body.endswith(b"\n"):
        sys.__stdout__.buffer.write(b"\n")
    sys.__stdout__.flush()


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
