"""Settings of models, from model-config.yaml and config.properties, as TorchServe counts and shows them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import support
from support import RunningServer, wait_for

LOADS = """
from pathlib import Path

notes = Path({notes!r})


def initialize(context):
    with notes.open("a") as file:
        file.write("loaded\\n")
    if len(notes.read_text().splitlines()) <= {failures}:
        raise ValueError("no weights")


class Handler:
    def initialize(self, context):
        initialize(context)

    def handle(self, data, context):
        return ["yes"] * len(data)
"""
PLAIN = "def handle(data, context):\n    return None if data is None else ['yes'] * len(data)\n"
SEQUENCE = {
    "sequenceMaxIdleMSec": 8000,
    "sequenceTimeoutMSec": 9000,
    "maxNumSequence": 7,
    "maxSequenceJobQueueSize": 6,
}
# A model-config.yaml, and what TorchServe's describe shows of it
DESCRIBED: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "tickets": ({"useJobTicket": True}, {"useJobTicket": True}),
    "continuous": ({"continuousBatching": True}, {"continuousBatching": True}),
    "venv": ({"useVenv": True}, {"useVenv": True}),
    "sequences": ({**SEQUENCE, "sequenceBatching": True}, {**SEQUENCE, "stateful": True}),
    "idle": ({"maxNumSequence": 7}, {"maxNumSequence": 0, "stateful": False}),
    "parallel": ({"parallelType": "tp", "parallelLevel": 2}, {"parallelType": "tp", "parallelLevel": 2}),
    "torchrun": (
        {"parallelType": "pp", "torchrun": {"nproc-per-node": 4}}, {"parallelType": "pp", "parallelLevel": 4},
    ),
    "untyped": ({"parallelLevel": 2}, {"parallelType": "", "parallelLevel": 0}),
    "unlevelled": ({"parallelType": "pp"}, {"parallelType": "", "parallelLevel": 0}),
}  # fmt: skip


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def server(
    make_archive: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory, notes: Path
) -> Iterator[RunningServer]:
    store = tmp_path_factory.mktemp("store")
    make_archive(store, "late", PLAIN)
    make_archive(store, "own", PLAIN, config={"responseTimeout": 9})
    for name, (config, _) in DESCRIBED.items():
        make_archive(store, name, PLAIN, config=config)
    for name, seconds in (("once", 0), ("again", 60)):
        handler = LOADS.format(notes=str(notes / name), failures=1)
        make_archive(store, name, handler, config={"maxRetryTimeoutInSec": seconds})
    models = {name: {"1.0": {"responseTimeout": 7, "batchSize": 5}} for name in ("late", "own")}
    arguments = ["--disable-token-auth", "--enable-model-api"]
    directory = tmp_path_factory.mktemp("server")
    running = support.start_server(directory, store, [], arguments, {"models": json.dumps(models)})
    yield running
    running.stop()


def register(server: RunningServer, name: str, **query: object) -> httpx.Response:
    return httpx.post(f"{server.management}/models", params={"url": f"{name}.mar", **query}, timeout=60)


def described(server: RunningServer, name: str) -> dict[str, object]:
    found: dict[str, object] = httpx.get(f"{server.management}/models/{name}", timeout=60).json()[0]
    return found


def test_models_of_config_properties_gives_a_later_registration_its_response_timeout(
    server: RunningServer,
) -> None:
    register(server, "late").raise_for_status()
    register(server, "own").raise_for_status()
    assert (described(server, "late")["responseTimeout"], described(server, "late")["batchSize"]) == (7, 5)
    # model-config.yaml comes first
    assert (described(server, "own")["responseTimeout"], described(server, "own")["batchSize"]) == (9, 5)


@pytest.mark.parametrize("name", DESCRIBED)
def test_describe_shows_the_keys_of_model_config_as_torchserve_does(server: RunningServer, name: str) -> None:
    register(server, name).raise_for_status()
    shown = described(server, name)
    expected = DESCRIBED[name][1]
    assert {key: shown[key] for key in expected} == expected


@pytest.mark.slow
def test_a_model_with_no_time_for_retries_is_loaded_once(server: RunningServer, notes: Path) -> None:
    # When two models fail at their first load, and one may be tried again
    register(server, "once", initial_workers=1, synchronous="false").raise_for_status()
    wait_for(lambda: "loadFailure" in described(server, "once"))
    register(server, "again", initial_workers=1, synchronous="false").raise_for_status()
    server.wait_until_ready("again")
    # Then the other one was not, and requests are answered with the reason
    assert (notes / "once").read_text().splitlines() == ["loaded"]
    answer = server.predict("once")
    assert answer.status_code == 503
    assert "no weights" in answer.text
    assert "not started again, because maxRetryTimeoutInSec is 0" in server.log.read_text()
    # A change by the operator starts it
    query = {"min_worker": 1, "synchronous": "true"}
    httpx.put(f"{server.management}/models/once", params=query, timeout=60).raise_for_status()
    wait_for(lambda: server.predict("once").text == "yes", what="an answer", log=server.log)
    assert (notes / "once").read_text().splitlines() == ["loaded", "loaded"]
