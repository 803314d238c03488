"""Archives whose modules have the names of marq's own packages: in a replica the archive's are imported."""

from collections.abc import Callable

import pytest
from support import RunningServer

from archive.packing.writer import ArchiveSpec, write

HANDLER = """
import multiprocessing
{imports}


def double(number):
    return 2 * number


def handle(data, context):
    if data is None:
        return None
    if bytes(data[0]["body"]) == b"spawn":
        with multiprocessing.get_context("spawn").Pool(1) as processes:
            return [str(processes.map(double, [4]))]
    return [{value}]
"""
CASES = {
    "package": ({"workers/__init__.py": "WHO = 'mine'\n"}, "import workers", "workers.WHO"),
    "namespace": ({"workers/tools.py": "WHO = 'mine'\n"}, "from workers.tools import WHO", "WHO"),
    "deep": (
        {
            "workers/__init__.py": "",
            "workers/replica/__init__.py": "",
            "workers/replica/loop.py": "WHO = 'mine'\n",
        },
        "from workers.replica.loop import WHO",
        "WHO",
    ),
    "module": ({"workers.py": "WHO = 'mine'\n"}, "import workers", "workers.WHO"),
    "archive": ({"archive/reader.py": "WHO = 'mine'\n"}, "import archive.reader", "archive.reader.WHO"),
    "gateway": ({"gateway.py": "WHO = 'mine'\n"}, "import gateway", "gateway.WHO"),
}


@pytest.fixture(scope="module")
def server(
    serve_models: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:
    store = tmp_path_factory.mktemp("store")
    for name, (files, imports, value) in CASES.items():
        sources = tmp_path_factory.mktemp(name)
        (sources / "my_handler.py").write_text(HANDLER.format(imports=imports, value=value))
        (sources / "model-config.yaml").write_text("minWorkers: 1\n")
        for path, text in files.items():
            (sources / "extra" / path).parent.mkdir(parents=True, exist_ok=True)
            (sources / "extra" / path).write_text(text)
        write(
            ArchiveSpec(
                model_name=name, version="1.0", handler=str(sources / "my_handler.py"), export_path=store,
                extra_files=(str(sources / "extra"),), config_file=str(sources / "model-config.yaml"),
            )
        )  # fmt: skip
    return serve_models(store)


@pytest.mark.parametrize("name", CASES)
def test_the_archives_module_is_imported(server: RunningServer, name: str) -> None:
    server.wait_until_ready(name)
    assert server.predict(name).text == "mine"
    if name != "namespace":  # Python itself prefers a package with `__init__.py` in a process that it spawns
        assert server.predict(name, b"spawn").text == "[8]"
