"""Unpacked archives are not deleted as long as somebody may need them."""

import os
import time

import pytest

from archive.reader import extract, prune, unpacked_path

DAY_S = 24 * 3600


def aged(path, by_s=2 * DAY_S):
    os.utime(path, (time.time() - by_s,) * 2)
    return path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def test_only_what_was_not_used_for_long_is_deleted(make_mar, root):
    old, new = (
        extract(make_mar({"h.py": b"1"}, "a.mar"), root),
        extract(make_mar({"h.py": b"2"}, "b.mar"), root),
    )
    aged(old)
    assert prune(root, [], unused_s=DAY_S) == [old]
    assert new.is_dir()


def test_what_is_kept_counts_as_used(make_mar, root):
    kept = aged(extract(make_mar({"h.py": b"1"}), root))
    assert prune(root, [kept], unused_s=DAY_S) == []
    assert prune(root, [], unused_s=DAY_S) == []
    assert kept.is_dir()


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_asking_for_it_again_counts_as_using_it(make_mar, make_folder, root, kind):
    source = make_mar({"h.py": b"1"}) if kind == "archive" else make_folder({"h.py": b"1"})
    unpacked = extract(source, root)
    aged(unpacked if kind == "archive" else unpacked.parent)
    extract(source, root)
    assert prune(root, [], unused_s=DAY_S) == []


def test_where_an_archive_will_be_is_known_before(make_mar, make_folder, root):
    root.mkdir()
    for source in (make_mar({"h.py": b"1"}), make_folder({"h.py": b"1"})):
        expected = unpacked_path(source, root)
        assert not expected.exists()
        assert extract(source, root) == expected
