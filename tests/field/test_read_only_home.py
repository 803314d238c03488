"""Containers with another user or a read-only root: the home directory cannot be written."""

import os
from pathlib import Path

import pytest

from marq.settings.loading import resolve


@pytest.fixture
def no_home(tmp_path, monkeypatch):
    """A home directory that cannot be made, not even by root; gives a TMPDIR."""
    file = tmp_path / "file"
    file.touch()
    for variable in ("XDG_STATE_HOME", "MARQ_STATE_DIR", "TS_CONFIG_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(file / "home"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.chdir(tmp_path)
    return temporary


def test_state_goes_to_tmpdir_and_the_server_says_so_once(no_home):
    resolved = resolve(None, {}, {})
    assert resolved.settings.state_dir == no_home / f"marq-{os.getuid()}"
    assert [line for line in resolved.notices if str(resolved.settings.state_dir) in line] == resolved.notices
    assert len(resolved.notices) == 1


def test_a_directory_that_another_user_could_have_put_there_is_not_used(no_home):
    (no_home / f"marq-{os.getuid()}").symlink_to("/tmp")
    assert resolve(None, {}, {}).settings.state_dir == Path.cwd() / ".marq"


def test_without_tmpdir_state_goes_to_the_working_directory(no_home, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(no_home.parent / "file" / "tmp"))
    assert resolve(None, {}, {}).settings.state_dir == Path.cwd() / ".marq"


def test_a_named_directory_is_used_without_a_word(no_home, tmp_path):
    resolved = resolve(None, {"state_dir": tmp_path / "mine"}, {})
    assert resolved.settings.state_dir == tmp_path / "mine"
    assert not resolved.notices
