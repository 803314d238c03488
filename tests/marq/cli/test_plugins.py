"""`marq plugins`: what was found, where, and what it hooks."""

import json

import pytest
from plugin_packages import add_package

from marq.plugins.protocols import AUTHORIZERS, OBSERVERS

SOURCE = """
class Audit:
    protocol = 1

    def observe(self, finished): ...


class Callers:
    protocol = 1
    headers = ("x-caller",)

    def decide(self, access): ...


class Old(Audit):
    protocol = 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "plugins"


def test_plugins_are_listed_with_their_packages_and_hooks(folder, run):
    add_package(folder, "mine", SOURCE, {AUTHORIZERS: {"callers": "Callers"}, OBSERVERS: {"audit": "Audit"}})
    listed = run("plugins", "--plugins-path", "plugins")
    assert listed.exit_code == 0
    [callers] = [line for line in listed.stdout.splitlines() if " callers " in line]
    assert callers.split()[:4] == [AUTHORIZERS, "callers", "mine", "1.0"]
    found = json.loads(run("plugins", "--plugins-path", "plugins", "--json").stdout)
    assert [(each["name"], each["place"], each["hooks"], each["error"]) for each in found] == [
        ("callers", str(folder), "every request, by its headers x-caller", ""),
        ("audit", str(folder), "every finished prediction and job", ""),
    ]


def test_one_that_cannot_be_used_is_named_and_fails_the_command(folder, run):
    add_package(folder, "old", SOURCE, {OBSERVERS: {"audit": "Old"}})
    (folder.parent / "config.properties").write_text("plugins_path=plugins/*\n")
    listed = run("plugins")
    assert listed.exit_code == 1
    assert "audit (package old 1.0" in listed.stderr
    assert "is for version 0 of the protocols of plugins, this marq has 1" in listed.stderr


def test_without_plugins_it_says_so(folder, run):
    listed = run("plugins")
    assert (listed.exit_code, listed.stderr) == (0, "Note: No plugins were found.\n")
