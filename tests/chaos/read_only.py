"""Case: the file system of the state directory becomes read-only, as the kernel does it after an error."""

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from disk_full import MOST_LINES, lines_of, processes_of, until_ping
from http_client import TEXT
from ledger import Ledger
from scale import Scale
from stage import Stage

SIZE = "128m"
JOBS = 300
AT_ONCE = 20
STOP_S = 45.0
DURABLE_S = 3.0  # `appendfsync everysec` may lose the last second or two
LATER_S = 8.0  # every other job waits for so long: it is queued when the disk fails
REASON = "Read-only file system"


@dataclass(frozen=True)
class FragileDisk:
    """A file system of its own, in a file, that can be broken and repaired."""

    place: Path
    trigger: Path

    @property
    def image(self) -> Path:
        return self.place.with_suffix(".img")

    def fail(self) -> None:
        """From now on nothing can be written, not even to files that are open."""
        self.trigger.write_text("1")

    def repair(self) -> None:
        """What an operator does when nothing uses it any more."""
        _run("umount", self.place)
        copy = self.image.with_suffix(".repaired")  # another name space may still have the first one mounted
        shutil.copyfile(self.image, copy)
        subprocess.run(["e2fsck", "-fy", copy], capture_output=True, check=False)  # 1: has repaired
        _run("mount", "-o", "loop,errors=remount-ro", copy, self.place)


@contextlib.contextmanager
def fragile_disk(place: Path) -> Iterator[FragileDisk | None]:
    """None where this user or this kernel cannot have one."""
    place.mkdir(parents=True)
    image = place.with_suffix(".img")
    try:
        _run("truncate", "-s", SIZE, image)
        _run("mke2fs", "-q", "-t", "ext4", image)
        _run("mount", "-o", "loop,errors=remount-ro", image, place)
    except (OSError, subprocess.CalledProcessError):
        yield None
        return
    try:
        source = subprocess.run(
            ["findmnt", "-n", "-o", "SOURCE", place], capture_output=True, text=True, check=True
        )
        trigger = Path("/sys/fs/ext4", Path(source.stdout.strip()).name, "trigger_fs_error")
        yield FragileDisk(place, trigger) if trigger.exists() else None
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


async def broken(stage: Stage, scale: Scale, disk: FragileDisk) -> tuple[Ledger, dict[str, int]]:
    """Refusals with the reason and few lines, no process ends, and a stop within seconds.

    Returns the jobs that were accepted before, and their numbers.
    """
    await stage.until_ready("square")
    ledger, processes, before = Ledger(), processes_of(stage), len(lines_of(stage))
    jobs = await _submitted(stage)
    await asyncio.sleep(DURABLE_S)
    disk.fail()
    await until_ping(stage, 500)
    await asyncio.sleep(scale.files_away_s)
    await _check_refusals(stage, ledger)
    if ended := processes - processes_of(stage):
        ledger.complain(f"{len(ended)} processes have ended")
    began = time.monotonic()
    code = await asyncio.to_thread(stage.server.stop)
    took_s, lines = time.monotonic() - began, lines_of(stage)[before:]
    ledger.notes += [f"{len(lines)} lines", f"stopped in {took_s:.0f} s"]
    if code or took_s > STOP_S:
        ledger.complain(f"the stop took {took_s:.0f} s, exit code {code}")
    if len(lines) > MOST_LINES:
        ledger.complain(f"{len(lines)} lines on the console, {lines[-1]} among them")
    if not any(REASON in line for line in lines):
        ledger.complain("the console does not say that the file system is read-only")
    return ledger, jobs


async def fetched(stage: Stage, _scale: Scale, jobs: dict[str, int]) -> Ledger:
    """The results of the jobs, from the server that was started when the file system was repaired."""
    ledger = Ledger(accepted=len(jobs))
    await stage.until_ready("square")
    client = stage.client()
    for job, number in jobs.items():
        answer = await client.request("GET", f"/jobs/{job}/result?wait=50")
        if answer.status == 200 and answer.body.rstrip() == str(number**2).encode():
            ledger.right += 1
        else:
            ledger.lose(f"job {job} of {number}: {answer.told}")
    client.close()
    if left := await stage.until_empty("square"):
        ledger.complain(f"left in the lanes (entries, pending): {left}")
    if letters := stage.dead_letters("square"):
        ledger.complain(f"{letters} dead letters")
    again = sum(times > 1 for times in stage.runs().values())
    ledger.notes.append(f"{again} rows run again")
    return ledger


async def _submitted(stage: Stage) -> dict[str, int]:
    client, room = stage.client(), asyncio.Semaphore(AT_ONCE)

    async def submit(number: int) -> tuple[str, int]:
        async with room:
            headers = {"X-Marq-Not-Before": f"{time.time() + LATER_S:.0f}"} if number % 2 else {}
            answer = await client.request("POST", "/jobs/square", str(number).encode(), TEXT | headers)
        return str(json.loads(answer.body)["job_id"]), number

    numbers = [next(stage.numbers) for _ in range(JOBS)]
    jobs = dict(await asyncio.gather(*map(submit, numbers)))
    client.close()
    return jobs


async def _check_refusals(stage: Stage, ledger: Ledger) -> None:
    """Predictions, jobs and the check of readiness are 503 with the reason."""
    client = stage.client()
    for method, path in (
        ("POST", "/predictions/square"), ("POST", "/jobs/square"), ("GET", "/v2/health/ready"),
    ):  # fmt: skip
        answer = await client.request(method, path, b"3" if method == "POST" else b"", TEXT)
        if answer.status != 503 or REASON not in answer.body.decode():
            ledger.complain(f"{method} {path} on a read-only file system: {answer.told}")
    client.close()


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], capture_output=True, check=True)
