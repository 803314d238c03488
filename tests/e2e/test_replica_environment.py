"""What a handler finds in its process: variables, the logger, the line format of its output."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import RunningServer, wait_for

HANDLER = """
import json
import logging
import os

NAMES = ("SEEN", "SECRET_KEY", "TS_DECODE_INPUT_REQUEST", "TS_IPEX_ENABLE", "TS_IPEX_GPU_ENABLE")


def handle(data, context):
    if data is None:
        return None
    root = logging.getLogger()
    root.info("said by the root logger")
    found = {name: os.environ.get(name) for name in NAMES}
    return [json.dumps({"variables": found, "level": logging.getLevelName(root.level)})] * len(data)
"""


@pytest.fixture(scope="module")
def server(
    start_server: Callable[..., RunningServer],
    make_archive: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningServer]:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "look", HANDLER, {"minWorkers": 1, "maxWorkers": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEEN", "yes")
        patch.setenv("SECRET_KEY", "hidden")
        patch.setenv("TS_IPEX_ENABLE", "true")
        yield start_server(store, blacklist_env_vars="SECRET_.*")


def test_a_handler_sees_the_servers_variables_but_hidden_ones(server: RunningServer) -> None:
    answer = json.loads(server.predict("look").text)
    assert answer["variables"] == {
        "SEEN": "yes",
        "SECRET_KEY": None,
        "TS_DECODE_INPUT_REQUEST": None,
        "TS_IPEX_ENABLE": "true",
        "TS_IPEX_GPU_ENABLE": None,
    }


def test_the_root_logger_writes_to_the_model_log(server: RunningServer) -> None:
    assert json.loads(server.predict("look").text)["level"] == "INFO"
    wait_for(lambda: "said by the root logger" in server.model_log, what="the line")
    [line, *_] = [line for line in server.model_log.splitlines() if "said by" in line]
    assert "[INFO ]" in line and "look-1.0@" in line and "pid" in line
