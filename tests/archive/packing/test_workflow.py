import os
import zipfile
from dataclasses import replace

import pytest

from archive.errors import PackagingError, SourceMissing
from archive.formats.limits import DEFAULT_LIMITS
from archive.formats.zip import members
from archive.packing.workflow import WorkflowSpec, plan, write
from archive.packing.writer import ArchiveSpec
from archive.packing.writer import write as write_model

MANIFEST = "WAR-INF/MANIFEST.json"


@pytest.fixture
def spec(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    for name in ("flow.yaml", "h.py", "z.txt", "a.txt"):
        (tmp_path / name).write_text(name * 100)
    return WorkflowSpec("f", "flow.yaml", "h.py", ("z.txt", " a.txt", ""))


def test_what_is_written_can_be_read(spec, tmp_path):
    path = write(spec)
    assert list(tmp_path.glob("*.part")) == list(tmp_path.glob(".*")) == []
    found = {member.name: member.read() for member in members(path, DEFAULT_LIMITS)}
    assert list(found) == ["a.txt", "flow.yaml", "h.py", "z.txt", MANIFEST]
    assert found["h.py"] == b"h.py" * 100


def test_the_same_files_at_the_same_time_make_the_same_bytes(spec, tmp_path, monkeypatch):
    # Given a time to be stamped with
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    model = ArchiveSpec("m", "h.py", "1.0", extra_files=("a.txt",))
    first = [write(spec).read_bytes(), write_model(model).read_bytes()]
    # When the files are touched and named in another order
    os.utime(tmp_path / "h.py", (1_800_000_000, 1_800_000_000))
    again = replace(spec, extra_files=("a.txt", "z.txt"), force=True)
    second = [write(again).read_bytes(), write_model(replace(model, force=True)).read_bytes()]
    # Then the archives are the same
    assert first == second
    with zipfile.ZipFile("f.war") as archive:
        assert archive.getinfo("h.py").date_time == (2023, 11, 14, 22, 13, 20)
        assert '"createdOn": "14/11/2023 22:13:20"' in archive.read(MANIFEST).decode()


def test_files_older_than_that_time_keep_their_own(spec, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    os.utime(tmp_path / "h.py", (1_000_000_000, 1_000_000_000))
    with zipfile.ZipFile(write(spec)) as archive:
        assert archive.getinfo("h.py").date_time[0] == 2001


def test_times_before_zip_are_its_first(spec, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    with zipfile.ZipFile(write(spec)) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"workflow_name": "a b"}, PackagingError, "Workflow name contains special characters"),
        ({"handler": ""}, PackagingError, "The handler is missing"),
        ({"handler": "nope.py"}, SourceMissing, r"File does not exist: nope\.py"),
        ({"extra_files": (".",)}, PackagingError, r"\. is a directory"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_left(spec, tmp_path, changes, error, message):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message):
        write(replace(spec, **changes))
    assert sorted(tmp_path.iterdir()) == before


def test_a_wrong_source_date_epoch_is_told(spec, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "-1")
    with pytest.raises(PackagingError, match="SOURCE_DATE_EPOCH must be a number of seconds, not '-1'"):
        write(spec)


def test_a_plan_names_each_member_and_its_source(spec):
    assert {name: str(path) for name, path in plan(spec).items()} == {
        name: name for name in ("a.txt", "flow.yaml", "h.py", "z.txt")
    }
