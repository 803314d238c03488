"""Makers of small archives in `tmp_path`."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from archive_files import tar_bytes, tar_member, zip_bytes


@pytest.fixture
def make_mar(tmp_path):
    def make(files, name: str = "m.mar", compression: int = zipfile.ZIP_DEFLATED) -> Path:
        path = tmp_path / name
        path.write_bytes(zip_bytes(files.items() if isinstance(files, dict) else files, compression))
        return path

    return make


@pytest.fixture
def make_tar(tmp_path):
    def make(members, name: str = "m.tar.gz", format_: int = tarfile.PAX_FORMAT) -> Path:
        if isinstance(members, dict):
            members = [tar_member(member, content=content) for member, content in members.items()]
        path = tmp_path / name
        path.write_bytes(tar_bytes(members, format_))
        return path

    return make


@pytest.fixture
def make_folder(tmp_path):
    def make(files, name: str = "m") -> Path:
        for member, content in files.items():
            path = tmp_path / name / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / name

    return make
