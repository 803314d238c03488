import hashlib
import json
import os
import tarfile
import threading
import time

import pytest
from archive_files import MANIFEST, manifest, tar_member, zip_link

from archive.errors import ArchiveNotFound, InvalidArchive, UnsafeArchive
from archive.reader import extract, prune
from archive.unpacking import digests, unpack


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def aged(path, by_s=10.0):
    os.utime(path, (time.time() - by_s,) * 2)
    return path


@pytest.fixture
def root(tmp_path):
    return tmp_path / "root"


def test_the_content_names_the_directory(make_mar, root):
    files = {MANIFEST: manifest(), "sub/w.pt": b"weights"}
    path = make_mar(files)
    unpacked = extract(path, root)
    assert unpacked == root / hashlib.sha256(path.read_bytes()).hexdigest()
    assert content(unpacked) == files
    assert oct(unpacked.stat().st_mode) == oct((unpacked / "sub").stat().st_mode)


def test_a_tar_is_unpacked_without_its_first_component(make_tar, root):
    unpacked = extract(make_tar({"m/sub/w.pt": b"weights", "m/h.py": b"x" * 3_000_000}), root)
    assert content(unpacked) == {"sub/w.pt": b"weights", "h.py": b"x" * 3_000_000}


def test_the_same_content_is_unpacked_once(make_mar, root):
    first = extract(make_mar({"h.py": b"1"}), root)
    (first / "mark").touch()
    assert extract(make_mar({"h.py": b"1"}, "copy.mar"), root) == first
    assert (first / "mark").exists()
    assert extract(make_mar({"h.py": b"2"}), root) != first


def test_a_failure_leaves_nothing(make_mar, root):
    path = make_mar([("a", b"x" * 100), ("../b", b"")])
    with pytest.raises(UnsafeArchive):
        extract(path, root)
    assert [entry for entry in root.iterdir() if entry.name != "digests.json"] == []


def test_empty_directories_are_kept(make_mar, root):
    unpacked = extract(make_mar([("empty/", None), ("h.py", b"")]), root)
    assert (unpacked / "empty").is_dir()


def test_of_duplicates_the_last_stays(make_tar, root):
    members = [
        tar_member("m/a", content=b"old and longer"),
        tar_member("m/a", content=b"new"),
        tar_member("m/b", content=b"file"),
        tar_member("m/b", tarfile.SYMTYPE, "a"),
        tar_member("m/c", tarfile.SYMTYPE, "a"),
        tar_member("m/c", content=b"file"),
    ]
    unpacked = extract(make_tar(members), root)
    assert content(unpacked) == {"a": b"new", "b": b"new", "c": b"file"}
    assert (unpacked / "b").is_symlink()
    assert not (unpacked / "c").is_symlink()


def test_links_that_stay_inside_are_links(make_tar, root):
    members = [
        tar_member("m/sub/a", content=b"a"),
        tar_member("m/hard", tarfile.LNKTYPE, "m/sub/a"),
        tar_member("m/sub/up", tarfile.SYMTYPE, "../sub/a"),
        tar_member("m/new/dangling", tarfile.SYMTYPE, "nowhere"),
    ]
    unpacked = extract(make_tar(members), root)
    assert (unpacked / "hard").read_bytes() == b"a"
    assert (unpacked / "sub/up").readlink().as_posix() == "../sub/a"
    assert (unpacked / "new/dangling").is_symlink()


def test_zip_links_that_stay_inside_are_links(make_mar, root):
    unpacked = extract(make_mar([("sub/a", b"a"), (zip_link("link"), "sub/a")]), root)
    assert (unpacked / "link").readlink().as_posix() == "sub/a"


def test_a_link_is_judged_by_where_it_really_leads(make_tar, root):
    # Given a link that is inside by its text, but goes through another link to above the archive
    members = [
        tar_member("m/d/e/f", content=b""),
        tar_member("m/d/e/up", tarfile.SYMTYPE, "../.."),
        tar_member("m/out", tarfile.SYMTYPE, "d/e/up/../.."),
    ]
    with pytest.raises(UnsafeArchive, match=r"'out' is a link to .*, outside the archive"):
        extract(make_tar(members), root)


def test_no_file_is_written_through_a_link(make_tar, root):
    members = [tar_member("m/real/x", content=b""), tar_member("m/d", tarfile.SYMTYPE, "real")]
    with pytest.raises(InvalidArchive, match="'d' cannot be created"):
        extract(make_tar([*members, tar_member("m/d/f", content=b"")]), root)


def test_links_in_a_circle_are_refused(make_tar, root):
    members = [
        tar_member("m/h.py"),
        tar_member("m/a", tarfile.SYMTYPE, "b"),
        tar_member("m/b", tarfile.SYMTYPE, "a"),
    ]
    with pytest.raises(InvalidArchive, match="'a' cannot be created"):
        extract(make_tar(members), root)


def test_a_hard_link_needs_a_file_of_the_archive(make_tar, root):
    for target in ("m/missing", "m/", "m/d"):
        members = [tar_member("m/d/a"), tar_member("m/hard", tarfile.LNKTYPE, target)]
        with pytest.raises(InvalidArchive, match="'hard' is a hard link"):
            extract(make_tar(members), root)


@pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a/b", "a/b/c/d")])
def test_a_name_cannot_be_a_file_and_a_directory(make_mar, root, names):
    with pytest.raises(InvalidArchive, match="cannot be created"):
        extract(make_mar([(name, b"") for name in names]), root)


def test_an_archive_without_files_is_refused(make_mar, root):
    with pytest.raises(InvalidArchive, match="holds no files"):
        extract(make_mar([("d/", None)]), root)


def test_what_is_not_there_is_not_found(root):
    with pytest.raises(ArchiveNotFound):
        extract(root / "m.mar", root)


def test_what_is_no_file_is_refused(tmp_path, root):
    os.mkfifo(tmp_path / "m.mar")
    with pytest.raises(InvalidArchive, match="neither a file nor a directory"):
        extract(tmp_path / "m.mar", root)


def test_an_archive_that_changes_while_it_is_read_is_refused(make_mar, root, monkeypatch):
    path = make_mar({"h.py": b""})
    finish = unpack.Tree.finish
    monkeypatch.setattr(unpack.Tree, "finish", lambda tree: (aged(path), finish(tree)))
    with pytest.raises(InvalidArchive, match="changed while it was read"):
        extract(path, root)


def test_several_may_unpack_the_same_archive_at_once(make_mar, root, monkeypatch):
    # Given two that both have seen that the archive is not unpacked yet
    path = make_mar({"h.py": b"x"})
    both = threading.Barrier(2, timeout=60)
    finish = unpack.Tree.finish
    monkeypatch.setattr(unpack.Tree, "finish", lambda tree: (finish(tree), both.wait()))
    results = []
    threads = [threading.Thread(target=lambda: results.append(extract(path, root))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then both get the one complete directory and nothing else is left
    assert results[0] == results[1]
    assert content(results[0]) == {"h.py": b"x"}
    assert [entry for entry in root.iterdir() if entry.name.startswith(".")] == []


def test_a_directory_is_linked_and_not_copied(make_folder, root):
    source = make_folder({"h.py": b""}, "resnet")
    link = extract(source, root)
    assert (link.name, link.readlink()) == ("resnet", source)
    assert extract(source, root) == link
    assert link.parent.parent == root


def test_a_link_that_is_wrong_is_made_right(make_folder, root):
    source = make_folder({"h.py": b""})
    link = extract(source, root)
    link.unlink()
    link.symlink_to("/nowhere")
    assert extract(source, root).readlink() == source


def test_the_only_directory_in_a_directory_is_the_model(make_folder, tmp_path, root):
    make_folder({"h.py": b""}, "outer/inner")
    assert extract(tmp_path / "outer", root).readlink() == tmp_path / "outer/inner"


def test_prune_deletes_what_is_not_kept(make_mar, make_folder, root):
    kept = extract(make_mar({"h.py": b"1"}), root)
    source = make_folder({"h.py": b""})
    kept_link = extract(source, root)
    doomed = extract(make_mar({"h.py": b"2"}), root)
    (root / "other").mkdir()
    assert prune(root, [kept, kept_link]) == [doomed]
    assert kept.is_dir() and kept_link.is_dir() and (root / "other").is_dir()
    assert not doomed.exists()
    assert prune(root, []) == sorted([kept, kept_link.parent])
    assert (source / "h.py").exists()


def test_prune_deletes_what_was_abandoned_a_day_ago(root):
    old, new = root / ".unpack-1", root / ".unpack-2"
    old.mkdir(parents=True)
    new.mkdir()
    aged(old, 2 * 86400)
    assert prune(root, []) == [old]


def test_prune_of_nothing_deletes_nothing(root):
    assert prune(root, []) == []


def test_a_digest_is_computed_once_for_an_unchanged_file(make_mar, tmp_path, monkeypatch):
    path, cache = aged(make_mar({"h.py": b"1"})), tmp_path / "cache.json"
    first = digests.sha256(path, cache)
    monkeypatch.setattr(digests, "_compute", lambda path: "0" * 64)
    assert digests.sha256(path, cache) == first
    # but anew when the file changes
    aged(path, 20)
    assert digests.sha256(path, cache) == "0" * 64


def test_a_digest_of_a_file_that_may_still_change_is_not_remembered(make_mar, tmp_path):
    digests.sha256(make_mar({"h.py": b"1"}), tmp_path / "cache.json")
    assert not (tmp_path / "cache.json").exists()


def test_digests_of_files_that_are_gone_are_forgotten(make_mar, tmp_path):
    cache = tmp_path / "cache.json"
    gone, there = aged(make_mar({"h.py": b"1"}, "a.mar")), aged(make_mar({"h.py": b"2"}, "b.mar"))
    digests.sha256(gone, cache)
    gone.unlink()
    digests.sha256(there, cache)
    assert list(json.loads(cache.read_bytes())) == [str(there)]


@pytest.mark.parametrize("damaged", ["{", "[]", '{"a": 1}', '{"a": [1, 2, 3, "../../evil"]}'])
def test_a_damaged_cache_is_as_good_as_none(make_mar, tmp_path, damaged):
    path, cache = aged(make_mar({"h.py": b"1"})), tmp_path / "cache.json"
    cache.write_text(damaged)
    assert digests.sha256(path, cache) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert list(json.loads(cache.read_bytes())) == [str(path)]


def test_a_cache_that_cannot_be_written_does_no_harm(make_mar, tmp_path):
    path = aged(make_mar({"h.py": b"1"}))
    (tmp_path / "cache.json").mkdir()
    assert digests.sha256(path, tmp_path / "cache.json")
    assert not list(tmp_path.glob("*.part"))
