"""Whatever an archive contains: nothing outside the target, and no error but InvalidArchive."""

import bz2
import gzip
import struct
import tarfile
import tempfile
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
from archive_files import MANIFEST, manifest, tar_bytes, tar_member, zip_bytes, zip_link
from hypothesis import given, settings
from hypothesis import strategies as st

from archive.errors import InvalidArchive, UnsafeArchive
from archive.formats.limits import MIB
from archive.reader import Limits, describe, extract

SMALL = Limits(entries=50, total_bytes=200_000, ratio=100, ratio_from_bytes=100_000)


def attempt(data: bytes, name: str, limits: Limits = SMALL) -> None:
    """Reads and unpacks in a directory of its own, and checks that only `root` was written to."""
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        base.mkdir()
        path, root = base / name, base / "in" / "root"
        path.write_bytes(data)
        failed = False
        for read in (lambda: describe(path, limits), lambda: extract(path, root, limits)):
            try:
                read()
            except InvalidArchive as error:
                failed = True
                assert str(error)
        assert sorted(Path(folder).iterdir()) == [base]
        assert sorted(base.iterdir()) == sorted([path, base / "in"])
        assert sorted((base / "in").iterdir()) == [root]
        entries = [entry for entry in root.iterdir() if entry.name != "digests.json"]
        assert len(entries) <= 1
        for entry in entries:
            assert all(found.resolve().is_relative_to(entry.resolve()) for found in entry.rglob("*"))
        assert failed or entries


def refused(data: bytes, name: str, limits: Limits = SMALL, error=InvalidArchive):
    """Both ways of reading refuse it."""
    attempt(data, name, limits)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        with pytest.raises(error):
            describe(path, limits)
        with pytest.raises(error):
            extract(path, Path(folder, "root"), limits)


HOSTILE = ["../x", "a/../../x", "a/..", "/x", "//x", "..", "a\\..\\x", "..\\x", "n" * 256, "d/" * 600 + "x"]


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: name[:12])
def test_hostile_names_are_refused(name):
    refused(zip_bytes([("h.py", b""), (name, b"evil")]), "m.mar")
    for format_ in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        refused(tar_bytes([tar_member(name, content=b"evil")], format_), "m.tar.gz")
        if not name.startswith("/"):
            refused(tar_bytes([tar_member(f"m/{name}", content=b"evil")], format_), "m.tar.gz")


@pytest.mark.parametrize("name", ["../d/", "/d/", "a/../../d/"])
def test_hostile_directories_are_refused(name):
    refused(zip_bytes([("h.py", b""), (name, b"")]), "m.mar", error=UnsafeArchive)
    refused(tar_bytes([tar_member(name, tarfile.DIRTYPE)]), "m.tar.gz", error=UnsafeArchive)


def test_names_with_nul_are_refused():
    refused(zip_bytes([("h.pyX.txt", b"")]).replace(b"h.pyX", b"h.py\0"), "m.mar")
    info, _ = tar_member("m/h.py")
    info.pax_headers = {"path": "m/h\0.py"}
    refused(tar_bytes([(info, b"")]), "m.tar.gz")


def test_names_that_are_not_utf8_are_refused():
    info, _ = tar_member("m/h\udcff.py")
    refused(tar_bytes([(info, b"")], tarfile.GNU_FORMAT), "m.tar.gz")


@pytest.mark.parametrize("target", ["/etc/passwd", "..", "../x", "a/../../x", "", "a\0b"])
def test_links_that_lead_out_are_refused(target):
    refused(zip_bytes([("h.py", b""), (zip_link("link"), target)]), "m.mar", error=UnsafeArchive)
    if "\0" not in target:
        members = [tar_member("m/h.py"), tar_member("m/link", tarfile.SYMTYPE, target)]
        refused(tar_bytes(members), "m.tar.gz", error=UnsafeArchive)


@pytest.mark.parametrize("target", ["/etc/passwd", "../x", "m/../../x"])
def test_hard_links_that_lead_out_are_refused(target):
    members = [tar_member("m/h.py"), tar_member("m/link", tarfile.LNKTYPE, target)]
    refused(tar_bytes(members), "m.tar.gz", error=UnsafeArchive)


@pytest.mark.parametrize("type_", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"V", b"S"])
def test_devices_and_the_like_are_refused(type_):
    refused(tar_bytes([tar_member("m/h.py"), tar_member("m/x", type_)]), "m.tar.gz", error=UnsafeArchive)
    info = zipfile.ZipInfo("x")
    info.external_attr = 0o010644 << 16  # a pipe
    refused(zip_bytes([("h.py", b""), (info, b"")]), "m.mar", error=UnsafeArchive)


def test_encrypted_members_are_refused():
    data = bytearray(zip_bytes([("h.py", b"code")]))
    data[data.index(b"PK\1\2") + 8] |= 1
    refused(bytes(data), "m.mar")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method):
    refused(zip_bytes([("h.py", b"code")], method), "m.mar")


def test_a_tar_of_another_compression_is_refused():
    plain = gzip.decompress(tar_bytes([tar_member("m/h.py", content=b"code")]))
    refused(plain, "m.tar.gz")
    refused(bz2.compress(plain), "m.tar.gz")


def fails_to_extract(data: bytes, name: str) -> None:
    attempt(data, name)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).write_bytes(data)
        with pytest.raises(InvalidArchive):
            extract(Path(folder, name), Path(folder, "root"), SMALL)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_wrong_checksum_is_noticed(method):
    data = zip_bytes([("h.py", b"some code")], method)
    crc = struct.pack("<L", zlib.crc32(b"some code"))
    fails_to_extract(data.replace(crc, b"\1\2\3\4"), "m.mar")
    fails_to_extract(zip_bytes([("h.py", b"some code")], 0).replace(b"some code", b"evil code"), "m.mar")
    data = tar_bytes([tar_member("m/h.py", content=b"some code")])
    fails_to_extract(data[:-8] + b"\1\2\3\4" + data[-4:], "m.tar.gz")


def declared(data: bytes, size: int) -> bytes:
    """The zip with another unpacked size in both headers of its first member."""
    changed = bytearray(data)
    for offset in (22, data.index(b"PK\1\2") + 24):
        changed[offset : offset + 4] = struct.pack("<L", size)
    return bytes(changed)


@pytest.mark.parametrize("size", [0, 1, 99, 101, 5000])
def test_a_member_has_the_size_it_declares(size):
    fails_to_extract(declared(zip_bytes([("h.py", b"x" * 100)]), size), "m.mar")


def test_a_shorter_member_with_the_right_checksum_is_noticed():
    # Given a checksum that fits what is there, which is less than what is declared
    fails_to_extract(declared(zip_bytes([("h.py", b"x" * 100)]), 5000), "m.mar")


@settings(max_examples=40)
@given(st.data())
def test_truncated_files_are_refused(data):
    files = [("h.py", bytes(range(256)) * 4), (MANIFEST, manifest())]
    whole = zip_bytes(files)
    refused(whole[: data.draw(st.integers(0, len(whole) - 1))], "m.mar")
    whole = tar_bytes([tar_member(f"m/{name}", content=content) for name, content in files])
    refused(whole[: data.draw(st.integers(0, len(whole) - 1))], "m.tar.gz")


def test_a_tar_that_ends_within_a_member_is_refused():
    plain = gzip.decompress(tar_bytes([tar_member("m/h.py", content=b"x" * 1000)]))
    for size in (100, 600, 1500):
        refused(gzip.compress(plain[:size]), "m.tar.gz")


def test_a_tar_needs_no_end_marker(tmp_path):
    plain = gzip.decompress(tar_bytes([tar_member("m/h.py", content=b"x" * 512)]))
    path = tmp_path / "m.tar.gz"
    path.write_bytes(gzip.compress(plain[:1024]))
    assert describe(path).names == ("h.py",)


def test_bombs_are_refused_without_unpacking_them():
    zeros = bytes(2 * MIB)
    refused(zip_bytes([("h.py", zeros)]), "m.mar", error=UnsafeArchive)
    refused(tar_bytes([tar_member("m/h.py", content=zeros)]), "m.tar.gz", error=UnsafeArchive)
    refused(gzip.compress(zeros), "m.tar.gz", error=InvalidArchive)
    plain = gzip.decompress(tar_bytes([tar_member("m/h.py")]))
    refused(gzip.compress(plain + zeros), "m.tar.gz", error=UnsafeArchive)


def test_a_bomb_that_declares_to_be_small_is_cut_off():
    fails_to_extract(declared(zip_bytes([("h.py", bytes(2 * MIB))]), 100), "m.mar")


def test_members_that_share_their_bytes_count_each_for_itself():
    # Given a zip whose directory names the same packed bytes many times
    data = zip_bytes([("h.py", bytes(90_000))])
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    directory = data[start:end] * 20
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 20, 20, len(directory), start, 0)
    refused(data[:start] + directory + tail, "m.mar", error=UnsafeArchive)


def test_too_many_members_are_refused():
    names = [f"f{number}" for number in range(51)]
    refused(zip_bytes([(name, b"") for name in names]), "m.mar", error=UnsafeArchive)
    refused(tar_bytes([tar_member(name) for name in names]), "m.tar.gz", error=UnsafeArchive)
    refused(zip_bytes([("/".join("d" * 51) + "/f", b"")]), "m.mar", error=UnsafeArchive)


def header(type_: bytes, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = type_, size
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("type_", [b"x", b"g", b"L", b"K"])
def test_memory_stays_small_whatever_a_header_declares(type_):
    data = gzip.compress(header(type_, 10**9) + bytes(64 * MIB), 1)
    tracemalloc.start()
    refused(data, "m.tar.gz", Limits(), UnsafeArchive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * MIB


def test_many_records_in_an_extended_header_take_no_time():
    records = b"6 a=b\n" * 150_000
    body = records.ljust(-(-len(records) // 512) * 512, b"\0")
    attempt(
        gzip.compress(header(b"g", len(records)) + body + header(b"0", 0) + bytes(1024)), "m.tar.gz", Limits()
    )


def test_memory_stays_small_whatever_the_table_of_contents_has():
    entry = b"PK\1\2" + bytes(42)
    directory = entry * 100_000
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    tracemalloc.start()
    refused(directory + tail, "m.mar", SMALL, UnsafeArchive)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * MIB


@pytest.mark.parametrize(
    "records",
    [b"x", b"99 path=a\n", b"0 path=a\n", b"6 path\n", b"10 size=-1\n", b"9 size=a\n", b"\xff" * 20],
)
def test_damaged_extended_headers_are_refused(records):
    plain = header(b"x", len(records)) + records.ljust(512, b"\0") + header(b"0", 0) + bytes(1024)
    refused(gzip.compress(plain), "m.tar.gz")


def test_a_negative_size_is_refused():
    block = bytearray(header(b"0", 0))
    block[124:136] = b"\xff" * 12
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refused(gzip.compress(bytes(block) + bytes(1024)), "m.tar.gz")


names = st.one_of(
    st.sampled_from(["a", "b", "a/b", "a/b/c", "m/a", "m/a/b", "m", "./x", ".", "", *HOSTILE[:8], MANIFEST]),
    st.text(alphabet="ab./\\\0\u00e4", max_size=8),
)
zip_names = names.filter(lambda name: name.partition("\0")[0])  # zipfile writes no others
targets = st.sampled_from(["a", "b", "m/a", ".", "..", "../a", "a/..", "a/../..", "/tmp", "../../a", "m"])
contents = st.binary(max_size=30)
types = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE]
)


@settings(max_examples=150)
@given(st.lists(st.tuples(names, types, targets, contents), max_size=6), st.sampled_from([0, 1, 2]))
def test_no_tar_writes_outside_its_directory(members, format_):
    made = [
        tar_member(name, type_, target, content if type_ == tarfile.REGTYPE else b"")
        for name, type_, target, content in members
    ]
    try:
        data = tar_bytes(made, format_)
    except ValueError:  # the format cannot hold such a name
        return
    attempt(data, "m.tar.gz")


@settings(max_examples=150)
@given(st.lists(st.tuples(zip_names, st.booleans(), targets, contents), max_size=6))
def test_no_zip_writes_outside_its_directory(members):
    files = [(zip_link(name), target) if link else (name, content) for name, link, target, content in members]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duplicates
        attempt(zip_bytes(files), "m.mar")


WHOLE_ZIP = zip_bytes([("h.py", b"code" * 20), (zip_link("l"), "h.py"), (MANIFEST, manifest())])
WHOLE_TAR = gzip.decompress(
    tar_bytes(
        [tar_member("m/h.py", content=b"code" * 20), tar_member("m/" + "n" * 120), tar_member("m/d", b"5")]
    )
)
changes = st.lists(
    st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
)


def damaged(data: bytes, changes) -> bytes:
    changed = bytearray(data)
    for position, new in changes:
        start = position % len(data)
        changed[start : start + len(new)] = new
    return bytes(changed)


@settings(max_examples=250)
@given(changes)
def test_a_damaged_zip_raises_nothing_else(changes):
    attempt(damaged(WHOLE_ZIP, changes), "m.mar")


@settings(max_examples=200)
@given(changes)
def test_a_damaged_tar_raises_nothing_else(changes):
    attempt(gzip.compress(damaged(WHOLE_TAR, changes), 1), "m.tar.gz")


@settings(max_examples=50)
@given(changes)
def test_a_damaged_gzip_raises_nothing_else(changes):
    attempt(damaged(gzip.compress(WHOLE_TAR), changes), "m.tar.gz")


@settings(max_examples=50)
@given(st.binary(max_size=2000), st.sampled_from(["m.mar", "m.tar.gz"]))
def test_no_bytes_at_all_raise_anything_else(data, name):
    attempt(data, name)
