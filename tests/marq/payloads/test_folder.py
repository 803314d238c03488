"""The payload files of a gateway: bounded, and gone with their requests."""

from pathlib import Path

import pytest

from marq.errors import QueueFull
from marq.payloads.folder import Folder
from marq.payloads.place import Place

STREAM = b"marq:replies:gateway"
ID, OTHER = b"request-1", b"request-2"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "payloads", 10, 1000)


@pytest.fixture
def folder(place: Place) -> Folder:
    return Folder(place, place.folder_of(STREAM))


def names(folder: Folder) -> list[str]:
    return sorted(file.name for file in (folder.place.directory / folder.place.folder_of(STREAM)).iterdir())


def test_a_body_is_written_while_it_arrives(folder: Folder) -> None:
    upload = folder.begin(ID, 6)
    for part in (b"abc", b"def"):
        upload.write(part)
    upload.close()
    assert folder.place.read(upload.ref) == folder.place.load(upload.ref) == b"abcdef"
    assert (upload.size, folder.held) == (6, 6)


def test_the_file_ends_with_its_request(folder: Folder) -> None:
    folder.begin(ID, 600).write(b"half of it")
    folder.add(OTHER, b"x" * 400)
    folder.discard(ID)
    assert names(folder) == [OTHER.decode()]
    assert folder.held == 400
    folder.discard(ID)
    folder.discard(b"unknown")
    assert folder.held == 400


def test_a_body_is_refused_before_it_is_written(folder: Folder) -> None:
    folder.begin(ID, 900)
    with pytest.raises(QueueFull, match="max_payload_bytes: 1000"):
        folder.begin(OTHER, 101)
    assert (names(folder), folder.held) == ([ID.decode()], 900)
    folder.discard(ID)
    folder.begin(OTHER, 1000)


def test_a_body_of_unknown_size_is_counted_while_it_grows(folder: Folder) -> None:
    folder.add(ID, b"x" * 500)
    upload = folder.begin(OTHER, 0)
    upload.write(b"x" * 400)
    with pytest.raises(QueueFull, match="max_payload_bytes"):
        upload.write(b"x" * 101)
    folder.discard(OTHER)
    assert folder.held == 500


def test_a_full_file_system_refuses_bodies(place: Place) -> None:
    folder = Folder(Place(place.directory, 10, 2**62), place.folder_of(STREAM))
    with pytest.raises(QueueFull, match="payload_dir"):
        folder.begin(ID, 2**60)
    assert folder.held == 0


def test_a_folder_that_was_removed_is_made_again(folder: Folder) -> None:
    (folder.place.directory / folder.place.folder_of(STREAM)).rmdir()
    upload = folder.add(ID, b"body")
    assert folder.place.read(upload.ref) == b"body"
    assert folder.place.sweep() == 0  # it is locked again


def test_answers_that_nobody_will_fetch_are_tidied_up(folder: Folder) -> None:
    folder.add(ID, b"body")
    kept = folder.place.deposit(STREAM, b"pending", b"answer")
    lost = folder.place.deposit(STREAM, b"ended", b"answer")
    for _ in range(2):
        folder.tidy({b"pending"}.__contains__)
    assert names(folder) == sorted((ID.decode(), kept.decode().partition("/")[2]))
    assert lost


def test_nothing_is_left_at_the_end(folder: Folder) -> None:
    folder.begin(ID, 5)
    folder.place.deposit(STREAM, OTHER, b"answer")
    folder.close()
    assert list(folder.place.directory.iterdir()) == []


def test_no_request_id_is_a_path(folder: Folder) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        folder.begin(b"../x", 5)
