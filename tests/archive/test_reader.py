import io
import json
import tarfile
import zipfile

import pytest
from archive_files import MANIFEST, manifest, tar_member

from archive.errors import ArchiveNotFound, InvalidArchive, UnsafeArchive
from archive.formats.limits import METADATA_BYTES
from archive.reader import Limits, describe

FILES = {
    "h.py": b"code",
    "sub/w.pt": b"weights",
    "c.yaml": b"batchSize: 3\n",
    MANIFEST: manifest(configFile="c.yaml"),
}


@pytest.fixture(params=["deflated", "stored", "tgz", "folder"])
def archive(request, make_mar, make_tar, make_folder):
    if request.param == "tgz":
        return make_tar({f"m/{name}": content for name, content in FILES.items()})
    if request.param == "folder":
        return make_folder(FILES)
    return make_mar(
        FILES, compression=zipfile.ZIP_STORED if request.param == "stored" else zipfile.ZIP_DEFLATED
    )


def test_every_format_tells_its_manifest_config_and_names(archive):
    description = describe(archive)
    assert description.path == archive
    assert description.manifest.model_name == "m"
    assert description.config is not None
    assert description.config.batch_size == 3
    assert set(description.names) == set(FILES)
    files_bytes = sum(map(len, FILES.values()))
    assert description.size_bytes == (files_bytes if archive.is_dir() else archive.stat().st_size)


def test_an_archive_needs_neither_manifest_nor_config(make_mar):
    description = describe(make_mar({"h.py": b"", "1": b"junk"}))
    assert description.manifest.raw is None
    assert description.config is None
    assert description.names == ("h.py", "1")


def test_old_archives_with_directory_entries_are_read(make_mar):
    files = [("MAR-INF/", None), (MANIFEST, manifest()), ("./h.py", b""), ("a//b", b"")]
    assert describe(make_mar(files)).names == (MANIFEST, "h.py", "a/b")


def test_of_duplicates_the_last_counts(make_mar, make_tar):
    files = [(MANIFEST, manifest(modelName="old")), (MANIFEST, manifest(modelName="new"))]
    with pytest.warns(UserWarning, match="Duplicate"):
        description = describe(make_mar(files))
    assert description.manifest.model_name == "new"
    assert description.names == (MANIFEST,)
    members = [tar_member(f"m/{name}", content=content) for name, content in files]
    assert describe(make_tar(members)).manifest.model_name == "new"


@pytest.mark.parametrize("prefix", ["m/", "./", "any/", "any//"])
def test_of_tar_members_the_first_component_is_stripped(make_tar, prefix):
    path = make_tar(
        {f"{prefix}{MANIFEST}": manifest(), f"{prefix}h.py": b"", "rootless.py": b"", "sub/x.py": b""}
    )
    description = describe(path)
    assert description.names == (MANIFEST, "h.py", "rootless.py", "x.py")
    assert description.manifest.model_name == "m"


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_tar_members_may_have_long_and_foreign_names(make_tar, format_):
    long = "d" * 90 + "/" + "f" * 90
    names = [long, "gr\u00fc\u00df.txt"]
    if format_ != tarfile.USTAR_FORMAT:
        names.append("e" * 150 + "/" + "g" * 150)
    path = make_tar({f"m/{name}": name.encode() for name in names}, format_=format_)
    assert list(describe(path).names) == names


def test_global_headers_are_applied(make_tar, tmp_path):
    buffer = io.BytesIO()
    headers = {"comment": "of git archive"}
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        info, content = tar_member("m/h.py", content=b"code")
        archive.addfile(info, io.BytesIO(content))
    (tmp_path / "m.tar.gz").write_bytes(buffer.getvalue())
    assert describe(tmp_path / "m.tar.gz").names == ("h.py",)


def test_a_directory_with_one_directory_in_it_is_that_one(make_folder, tmp_path):
    make_folder(FILES, "outer/inner")
    assert set(describe(tmp_path / "outer").names) == set(FILES)


def test_a_directory_that_holds_only_its_manifest_is_the_model_itself(make_folder):
    assert describe(make_folder({MANIFEST: manifest()})).manifest.model_name == "m"


def test_a_config_file_that_is_missing_is_named(make_mar):
    with pytest.raises(InvalidArchive, match=r"'c\.yaml', which is not in the archive"):
        describe(make_mar({MANIFEST: manifest(configFile="c.yaml")}))


def test_a_config_file_that_is_broken_is_named(make_mar):
    with pytest.raises(InvalidArchive, match=r"my\.yml: line 1"):
        describe(make_mar({MANIFEST: manifest(configFile="my.yml"), "my.yml": b"["}))


@pytest.mark.parametrize("name", [MANIFEST, "c.yaml"])
def test_metadata_of_any_size_is_not_read(make_mar, name):
    files = {MANIFEST: manifest(configFile="c.yaml"), "c.yaml": b"", name: b" " * (METADATA_BYTES + 1)}
    with pytest.raises(InvalidArchive, match=f"{name} is too large"):
        describe(make_mar(files))


def test_only_the_name_decides_the_format(make_mar, make_tar):
    with pytest.raises(InvalidArchive, match=r"m\.zip .*Files whose names end with \.mar are read as zip"):
        describe(make_mar({"h.py": b""}, "m.zip"))
    with pytest.raises(InvalidArchive, match=r"m\.mar is not a readable zip"):
        describe(make_tar({"m/h.py": b""}, "m.mar"))
    assert describe(make_tar({"m/h.py": b""}, "m.model")).names == ("h.py",)


def test_what_is_not_there_is_not_found(tmp_path):
    with pytest.raises(ArchiveNotFound, match="Model not found at: "):
        describe(tmp_path / "m.mar")


@pytest.mark.parametrize("name", ["m.mar", "m.tar.gz"])
def test_an_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(InvalidArchive):
        describe(tmp_path / name)


def test_an_archive_without_files_is_refused(make_mar):
    with pytest.raises(InvalidArchive, match="holds no files"):
        describe(make_mar({"MAR-INF/": None}))


def test_too_many_files_are_refused_with_the_directories_they_need(make_mar, make_folder):
    files = {f"{n}/x": b"" for n in range(5)}
    assert len(describe(make_mar(files), Limits(entries=10)).names) == 5
    for path in (make_mar(files), make_folder(files)):
        with pytest.raises(UnsafeArchive, match="more than 9 files and directories"):
            describe(path, Limits(entries=9))


def test_numbers_in_the_manifest_reach_the_description(make_mar):
    content = json.dumps({"model": {"modelName": "m", "modelVersion": 2}}).encode()
    assert describe(make_mar({MANIFEST: content})).manifest.model_version == "2"
