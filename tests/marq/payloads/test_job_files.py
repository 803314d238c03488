import stat
from pathlib import Path

import pytest

from marq.errors import QueueFull
from marq.payloads.files import PayloadLost
from marq.payloads.job_files import BODY, JobFiles, is_ref, request_id_of
from marq.payloads.job_uploads import JobUploads
from marq.payloads.place import Place

ID = "0b0c5dc2-6b59-4a6c-9a40-0123456789ab"


@pytest.fixture
def files(tmp_path):
    return JobFiles(tmp_path / "state" / "job-payloads", 10)


def test_a_kept_answer_is_read_by_another_process_with_the_directory(files):
    ref = files.keep("m", ID, b"an answer")
    assert is_ref(ref)
    assert request_id_of(ref) == ID.encode()
    other = JobFiles(files.directory, 10)
    assert (other.identity, other.load(ref)) == (files.identity, b"an answer")
    assert JobFiles.found(str(files.directory).encode()).load(ref) == b"an answer"
    files.remove(ref)
    with pytest.raises(PayloadLost):
        other.load(ref)


def test_only_this_user_reads_them(files):
    path = Path(files.path(files.keep("m", ID, b"secret")))
    modes = [stat.S_IMODE(each.stat().st_mode) for each in (path, path.parent, files.directory)]
    assert modes == [0o600, 0o700, 0o700]
    files.directory.chmod(0o755)
    assert JobFiles(files.directory, 10).identity == ""


def test_attempts_do_not_write_into_the_same_file(files):
    assert files.keep("m", ID, b"one") != files.keep("m", ID, b"other")


@pytest.mark.parametrize("name", ["..", "a/b", "ä" * 90, "."])
def test_any_name_of_a_model_will_do(files, name):
    files.keep(name, ID, b"x")
    assert [stored.model for stored in files.all()] == [name]
    assert sorted(path.name for path in files.directory.parent.iterdir()) == ["job-payloads"]


def test_a_store_that_was_removed_is_made_again_with_its_id(files):
    ref = files.keep("m", ID, b"x")
    for path in sorted(files.directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    files.directory.rmdir()
    assert files.load(files.keep("m", ID, b"y")) == b"y"
    assert JobFiles(files.directory, 10).identity.encode() == ref.partition(b"/")[0]


def test_references_of_others_are_refused(files, tmp_path):
    other = JobFiles(tmp_path / "other", 10)
    ref = other.keep("m", ID, b"x")
    place = Place(tmp_path / "payloads", 10, 100, files)
    assert place.is_elsewhere(ref)
    for wrong in (ref, b"job-0/../../etc/passwd", files.identity.encode() + b"/../id"):
        with pytest.raises(PayloadLost):
            files.load(wrong)
    with pytest.raises(PayloadLost):
        place.load(ref)
    with pytest.raises(ValueError, match="name of a file"):
        files.create("m", "../x", BODY)


async def test_the_store_is_bounded(files):
    uploads = JobUploads(files, 1000)
    await uploads.look()
    kept = await uploads.add("m", ID.encode(), b"x" * 600)
    with pytest.raises(QueueFull, match="max_job_payload_bytes"):
        await uploads.add("m", ID.encode(), b"x" * 600)
    uploads.discard(kept)
    await uploads.add("m", ID.encode(), b"x" * 600)
    after = JobUploads(files, 1000)  # of another gateway
    with pytest.raises(QueueFull, match="take 600 bytes"):
        await after.add("m", ID.encode(), b"x" * 600)


async def test_an_upload_that_grows_beyond_what_was_announced_is_counted(files):
    upload = JobUploads(files, 1000).begin("m", ID.encode(), 10)
    upload.write(b"x" * 900)
    with pytest.raises(QueueFull):
        upload.write(b"x" * 200)
    upload.close()
