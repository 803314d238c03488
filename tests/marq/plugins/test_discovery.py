"""Plugins are found in directories without importing them; the objects that they make are checked."""

import pytest
from plugin_packages import add_package

from marq.plugins import discovery
from marq.plugins.discovery import PluginError
from marq.plugins.protocols import OBSERVERS, STORES

GOOD = """
class Audit:
    protocol = 1

    def observe(self, finished): ...


class Old(Audit):
    protocol = 0


class Unfinished:
    protocol = 1


def ends():
    raise SystemExit("no licence")
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "plugins"


def named(found):
    return [(each.group, each.name) for each in found]


def test_the_plugins_of_a_directory_are_found_in_the_order_of_their_names(folder):
    points = {STORES: {"a": "A"}, OBSERVERS: {"z": "Z", "b": "B"}, "other.group": {"x": "X"}}
    add_package(folder, "of_all_kinds", "raise RuntimeError('imported')", points)
    found = discovery.find(str(folder))
    assert named(found) == [(OBSERVERS, "b"), (OBSERVERS, "z"), (STORES, "a")]
    assert (found[0].package, found[0].version, found[0].place) == ("of_all_kinds", "1.0", str(folder))


@pytest.mark.parametrize("written", ["{0},{1}", "{0}:{1}", " {0}/* , {1}/ ", "{0}/*:{1}/*"])
def test_several_directories_may_be_named_also_as_torchserve_s_users_write_them(tmp_path, written):
    for name in ("first", "second"):
        add_package(tmp_path / name, f"in_{name}", "", {STORES: {name: "A"}})
    found = discovery.find(written.format(tmp_path / "first", tmp_path / "second"))
    assert named(found) == [(STORES, "first"), (STORES, "second")]


@pytest.mark.parametrize("path", ["", "missing", "/dev/null", ",:,"])
def test_a_path_without_packages_has_no_plugins(path):
    assert discovery.find(path) == []


def test_a_plugin_can_be_left_out(folder):
    add_package(folder, "left_out", "", {OBSERVERS: {"a": "A", "b": "B"}})
    assert named(discovery.find(str(folder), " a , c")) == [(OBSERVERS, "b")]


def test_two_packages_with_one_name_are_both_named(folder):
    for package in ("one_of_two", "two_of_two"):
        add_package(folder, package, "", {OBSERVERS: {"audit": "Audit"}})
    with pytest.raises(PluginError, match=r"one_of_two 1\.0.*two_of_two 1\.0.*plugins_left_out=audit"):
        discovery.find(str(folder))
    assert discovery.find(str(folder), "audit") == []


def test_the_name_may_be_used_in_another_group(folder):
    add_package(folder, "both_groups", "", {OBSERVERS: {"x": "A"}, STORES: {"x": "B"}})
    assert named(discovery.find(str(folder))) == [(OBSERVERS, "x"), (STORES, "x")]


def test_a_plugin_is_made_by_its_entry_point(folder):
    add_package(folder, "well_made", GOOD, {OBSERVERS: {"audit": "Audit"}})
    plugin = discovery.load_named(OBSERVERS, "audit", str(folder))
    assert type(plugin.made).__name__ == "Audit"


def test_the_packages_of_a_directory_replace_none_of_the_server_s(folder):
    add_package(folder, "json", "raise RuntimeError('another json')", {OBSERVERS: {"audit": "JSONDecoder"}})
    with pytest.raises(PluginError, match="for version None of the protocols"):
        discovery.load_named(OBSERVERS, "audit", str(folder))


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("Old", "is for version 0 of the protocols of plugins, this marq has 1"),
        ("Unfinished", "lacks observe"),
        ("Missing", "cannot be loaded: AttributeError"),
        ("ends", "cannot be loaded: SystemExit: no licence"),
    ],
)
def test_the_reason_is_given_why_a_plugin_cannot_be_used(folder, attribute, reason):
    add_package(folder, "ill_made", GOOD, {OBSERVERS: {"audit": attribute}})
    with pytest.raises(PluginError) as raised:
        discovery.load_group(OBSERVERS, str(folder), "")
    assert f"marq.observers audit (package ill_made 1.0, {folder}) {reason}" in str(raised.value)


def test_an_unknown_name_is_refused_with_the_known_ones(folder):
    add_package(folder, "of_stores", "", {STORES: {"attic": "A", "cellar": "B"}})
    with pytest.raises(PluginError, match=r"no plugin loft in the group marq\.stores; found: attic, cellar"):
        discovery.load_named(STORES, "loft", str(folder))
