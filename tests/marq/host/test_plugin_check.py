"""All plugins are loaded once before a server starts; one that cannot be used ends the start by its name."""

import psutil
import pytest
from plugin_packages import add_package

from marq.host import plugin_check
from marq.plugins.discovery import PluginError
from marq.plugins.protocols import ENDPOINTS, OBSERVERS, STORES
from marq.settings.fields import Settings

GOOD = "class Audit:\n    protocol = 1\n    def observe(self, finished): ...\n"
SHOUTING = f"print('hello')\n{GOOD}"
STORE = "class Attic:\n    protocol = 1\n    schemes = ('attic', 'loft')\n    def pieces(self, url): ...\n"


@pytest.fixture
def settings(tmp_path):
    def make(**given):
        return Settings(plugins_path=str(tmp_path / "plugins"), state_dir=tmp_path, **given)

    return make


@pytest.fixture
def add(tmp_path):
    def add(package, source, group=OBSERVERS, **names):
        add_package(tmp_path / "plugins", package, source, {group: names or {package: "Audit"}})

    return add


def test_good_plugins_are_listed_with_their_hooks(settings, add):
    add("good", SHOUTING)
    add("stores", STORE, STORES, attic="Attic")
    checked = plugin_check.examine(settings())
    assert [(each.found.name, each.hooks, each.error) for each in checked] == [
        ("good", "every finished prediction and job", ""),
        ("attic", "archives at attic://, loft://", ""),
    ]


def test_no_process_is_started_where_there_are_none(settings, monkeypatch):
    monkeypatch.setattr(plugin_check.subprocess, "Popen", None)
    assert plugin_check.examine(settings()) == []


def test_all_that_cannot_be_used_are_named_with_the_way_out(settings, add):
    add("good", GOOD)
    add("raising", "raise ValueError('not today')")
    add("wrong", GOOD.replace("1", "7"))
    with pytest.raises(PluginError) as raised:
        plugin_check.check(settings())
    first, second, advice = str(raised.value).splitlines()
    assert "marq.observers raising (package raising 1.0" in first
    assert first.endswith("cannot be loaded: ValueError: not today.")
    assert "is for version 7 of the protocols of plugins, this marq has 1" in second
    assert "plugins_left_out=raising,wrong" in advice
    plugin_check.check(settings(plugins_left_out="raising,wrong"))


def test_one_that_ends_the_process_is_named(settings, add):
    add("ending", "import os\nos._exit(3)")
    [checked] = plugin_check.examine(settings())
    assert checked.error.startswith("marq.observers ending")
    assert checked.error.endswith("ends the process that loads it")


def test_one_that_hangs_is_named_and_its_process_ended(settings, add):
    add("hanging", "import time\ntime.sleep(600)")
    [checked] = plugin_check.examine(settings(), limit_s=0.5)
    assert checked.error.endswith("has not been loaded within 0.5 s")
    commands = [each.cmdline() for each in psutil.Process().children() if each.is_running()]
    assert [command for command in commands if "gateway.trial" in command] == []


ENDPOINT = """
from fastapi import APIRouter

class Mine:
    protocol = 1
    plane = "inference"
    def router(self, server):
        api = APIRouter()
        @api.get("PATH")
        def mine(): ...
        return api
"""


def test_a_path_that_is_taken_ends_the_start(settings, add):
    paths = ("/ping", "/jobs/{name}", "/mine/predict", "/predictions/{name}", "/wfpredict/{name}", "/token")
    for number, path in enumerate(paths):
        name = f"mine_{number}"
        add(name, ENDPOINT.replace("PATH", path), ENDPOINTS, **{name: "Mine"})
    with pytest.raises(PluginError) as raised:
        plugin_check.check(settings())
    for path in paths:
        assert f"the path {path} is taken already" in str(raised.value)


def test_two_plugins_cannot_have_the_same_path(settings, add):
    for name in ("one", "two"):
        add(name, ENDPOINT.replace("PATH", "/mine"), ENDPOINTS, **{name: "Mine"})
    one, two = plugin_check.examine(settings())
    assert one.hooks == "the inference address: /mine"
    assert two.error.endswith("the path /mine is taken already")


def test_an_endpoint_that_makes_no_router_is_named(settings, add):
    source = ENDPOINT.replace("return api", "return 7").replace("PATH", "/mine")
    add("seven", source, ENDPOINTS, seven="Mine")
    add("raising", ENDPOINT.replace("api = APIRouter()", "1 / 0"), ENDPOINTS, raising="Mine")
    raising, seven = plugin_check.examine(settings())
    assert raising.error.endswith("failed: ZeroDivisionError: division by zero")
    assert seven.error.endswith("its router is not a fastapi.APIRouter")
