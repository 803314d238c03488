"""The directory of payload files: who may read what, and what is left of processes that have ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import wait_for

from marq.payloads.files import PayloadLost
from marq.payloads.folder import Folder
from marq.payloads.place import Place, default_directory

STREAM, ID = b"marq:replies:here-1-2", b"0b0c5dc2-6b59-4a6c-9a40-0123456789ab"
LARGE = bytes(range(256)) * 1000
OWNER = """
import sys, time
from pathlib import Path
from marq.payloads.folder import Folder
from marq.payloads.place import Place
folder = Folder(Place(Path(sys.argv[1]), 10, 10_000), "a" * 32)
folder.add(b"1", b"body")
print("there", flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "payloads", 10, 1_000_000)


def test_an_answer_is_deposited_with_the_reader_of_the_stream_alone(place: Place) -> None:
    folder = Folder(place, place.folder_of(STREAM))
    ref = place.deposit(STREAM, ID, LARGE)
    assert folder.take(ref) == LARGE
    with pytest.raises(PayloadLost):
        folder.take(ref)
    assert place.deposit(b"marq:replies:elsewhere", ID, LARGE) == b""


def test_a_mapped_answer_outlives_its_file(place: Place) -> None:
    folder = Folder(place, place.folder_of(STREAM))
    mapped = folder.take_mapped(place.deposit(STREAM, ID, LARGE))
    assert list((place.directory / place.folder_of(STREAM)).iterdir()) == []
    assert mapped == LARGE


def test_an_answer_of_another_folder_is_not_taken(place: Place) -> None:
    folder, other = (Folder(place, place.folder_of(stream)) for stream in (STREAM, b"other"))
    ref = place.deposit(b"other", ID, LARGE)
    for take in (folder.take, folder.take_mapped):
        with pytest.raises(PayloadLost):
            take(ref)
    assert other.take(ref) == LARGE


@pytest.mark.parametrize("request_id", [b"../x", b"a/b", b"", b"." * 5, b"\xff", b"x" * 200])
def test_the_id_of_a_request_names_no_other_file(place: Place, request_id: bytes) -> None:
    Folder(place, place.folder_of(STREAM))
    assert place.deposit(STREAM, request_id, LARGE) == b""


@pytest.mark.parametrize("ref", [b"../../etc/passwd", b"/etc/passwd", b"a" * 32 + b"/..", b"", b"\xff"])
def test_only_references_are_read(place: Place, ref: bytes) -> None:
    with pytest.raises(PayloadLost):
        place.load(ref)


def test_nobody_else_can_read_the_files(place: Place) -> None:
    folder = Folder(place, place.folder_of(STREAM))
    upload = folder.add(ID, LARGE)
    path = place.directory / upload.ref.decode()
    assert [each.stat().st_mode & 0o777 for each in (place.directory, path.parent, path)] == [
        0o700, 0o700, 0o600,
    ]  # fmt: skip


def test_a_directory_that_others_can_enter_is_not_used(place: Place) -> None:
    place.directory.mkdir(mode=0o755)
    assert place.identity == ""
    with pytest.raises(OSError, match="not a directory of this user alone"):
        Folder(place, place.folder_of(STREAM))


def test_a_link_is_not_followed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    place.directory.symlink_to(tmp_path / "elsewhere")
    assert place.identity == ""


def test_identities_are_equal_for_the_same_directory_only(place: Place, tmp_path: Path) -> None:
    assert place.identity == Place(place.directory, 5, 5).identity != ""
    assert place.identity != Place(tmp_path / "other", 10, 10).identity


def test_the_sweep_removes_folders_of_processes_that_were_killed(place: Place) -> None:
    living = Folder(place, place.folder_of(STREAM))
    living.add(ID, LARGE)
    command = [sys.executable, "-c", OWNER, str(place.directory)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"there\n"
    assert place.sweep() == 0
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_for(place.sweep, what="the sweep")
    assert [folder.name for folder in place.directory.iterdir()] == [place.folder_of(STREAM)]
    assert place.load(living.bodies[ID].ref) == LARGE


def test_the_sweep_leaves_a_folder_that_is_being_made(place: Place) -> None:
    new = place.make() / "new-0123"
    new.mkdir()
    assert place.sweep() == 0
    long_ago = time.time() - 3600
    os.utime(new, (long_ago, long_ago))
    assert place.sweep() == 1


def test_by_default_files_are_in_shared_memory_or_the_state_directory(tmp_path: Path) -> None:
    found = default_directory(tmp_path)
    assert found in (Path(f"/dev/shm/marq-{os.getuid()}"), tmp_path / "payloads")
