import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from archive.errors import InvalidArchive
from archive.reader import describe
from archive.shadows import RESERVED
from workers.handler.precedence import OURS

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "renamed"),
    [
        ("marq.py", "marq.py"),
        ("ts.pyc", "ts.pyc"),
        ("ts/extra.py", "the directory ts/"),
        ("ts/deep/extra.py", "the directory ts/"),
        ("ts.cpython-311-x86_64-linux-gnu.so", "ts.cpython-311-x86_64-linux-gnu.so"),
        ("marq.abi3.so", "marq.abi3.so"),
    ],
)
def test_a_module_with_the_name_of_one_of_marqs_is_refused(make_mar, name, renamed):
    with pytest.raises(InvalidArchive) as caught:
        describe(make_mar({"handler.py": b"", name: b""}))
    assert str(caught.value).startswith(f"{name} in m.mar has the name of marq's own package ")
    assert caught.value.reason.startswith(f"Rename {renamed} and the imports of it")


@pytest.mark.parametrize("name", ["ts/a.py", "marq.py"])
def test_other_kinds_of_archives_are_judged_alike(make_tar, make_folder, name):
    with pytest.raises(InvalidArchive, match="marq's own package"):
        describe(make_tar({f"m/{name}": b""}))
    with pytest.raises(InvalidArchive, match="marq's own package"):
        describe(make_folder({name: b"", "other.txt": b""}))


@pytest.mark.parametrize(
    "name",
    [
        "archive/data.bin",
        "archive/reader.py",
        "gateway.py",
        "base_handler.py",
        "base_handler/__init__.py",
        "ts/notes.txt",
        "marq/weights.pt",
        "workers/__init__.py",
        "workers.py",
        "lib/marq.py",
        "my/ts/a.py",
        "ts-data/a.py",
        "marq-1.0.dist-info/METADATA",
        "tsx.py",
        "__pycache__/ts.cpython-311.pyc",
    ],
)
def test_whatever_else_an_archive_carries_is_accepted(make_mar, name, caplog):
    assert name in describe(make_mar({name: b""})).names
    assert not caplog.messages


@pytest.mark.parametrize("name", ["json.py", "queue/__init__.py"])
def test_a_module_that_hides_one_of_pythons_is_told_in_the_log(make_mar, name, caplog):
    caplog.set_level(logging.WARNING)
    describe(make_mar({name: b"", "concurrent/mine.py": b"", "lib/json.py": b""}))
    module = name.partition("/")[0].removesuffix(".py")
    assert caplog.messages == [f"{name} in m.mar hides Python's own module {module!r}; rename it"]


def test_a_replica_imports_no_package_but_those_that_are_refused_or_give_way():
    """Run as replicas are: what is in the process once a handler can be loaded."""
    code = (
        "import json, sys\n"
        "import workers.replica.loop, workers.handler.loader, ts.context, ts.metrics.metric_cache_yaml_impl\n"
        "import ts.torch_handler.base_handler\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    ours = {path.parent.name for path in PROJECT.glob("*/__init__.py")}
    assert ours >= {"archive", "gateway", "marq", "ts", "workers"}
    assert set(json.loads(done.stdout)) & ours <= RESERVED | set(OURS)
