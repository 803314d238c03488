"""What a handler can import, and from where."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx
import pytest

PROJECT = Path(__file__).parents[2]
SOURCE = """
import os, sys

import archive_data
import gateway


def handle(data, context):  # noqa: ARG001 - all handlers are called with it
    own = [archive_data.NAME, gateway.NAME]
    found = {"path": sys.path, "cwd": os.getcwd(), "own": own, "dir": context.system_properties["model_dir"]}
    return [found] * len(data or [])
"""


@pytest.fixture(scope="module")
def server(serve_models, make_archive, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    with zipfile.ZipFile(
        make_archive(store, "paths", SOURCE, {"minWorkers": 1, "maxWorkers": 1}), "a"
    ) as packed:
        packed.writestr("archive_data.py", "NAME = 'data'")
        packed.writestr("gateway.py", "NAME = 'its own gateway'")
        packed.writestr("archive/table.csv", "1,2")
    with zipfile.ZipFile(make_archive(store, "shadow", SOURCE), "a") as packed:
        packed.writestr("marq/__init__.py", "")
    started = serve_models(store, ["paths.mar"])
    started.wait_until_ready("paths")
    return started


@pytest.fixture(scope="module")
def found(server):
    return server.predict("paths").json()


def test_the_model_directory_is_first_and_the_working_directory(found):
    assert found["path"][0] == found["dir"] == found["cwd"]


def test_nothing_else_is_on_the_path_but_what_is_installed(found):
    code = "import json, sys; print(json.dumps(sys.path))"
    bare = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert found["path"][1:] == json.loads(bare.stdout)
    assert not {"", ".", str(PROJECT), str(PROJECT / "workers"), str(PROJECT / "ts")} & set(found["path"])


def test_packages_that_the_replica_does_not_need_may_be_the_archives_own(found):
    assert found["own"] == ["data", "its own gateway"]


def test_an_archive_whose_module_would_be_hidden_is_refused(server):
    answer = httpx.post(f"{server.management}/models", params={"url": "shadow.mar"}, timeout=60)
    assert (answer.status_code, answer.json()["type"]) == (400, "InvalidModelException")
    assert answer.json()["message"].splitlines() == [
        "marq/__init__.py in shadow.mar has the name of marq's own package 'marq', which the replica needs.",
        "Rename the directory marq/ and the imports of it, and pack the archive again.",
    ]
