"""config.properties as people have them: the server starts, and says which lines have no effect."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from ports import free_port
from support import MARQ, wait_for

from marq.settings.loading import resolve
from marq.settings.properties import SettingsError

LINES = {
    "NUM_WORKERS=1": 'Did you mean "default_workers_per_model"?',
    "batch_size=4": "batchSize in model-config.yaml",
    "max_batch_delay=100": "maxBatchDelay in model-config.yaml",
    "response_timeout=5": "responseTimeout in model-config.yaml",
    "initial_workers=1": "minWorkers in model-config.yaml",
    "max_workers=4": "maxWorkers in model-config.yaml",
    "workflow-store=/tmp/ws": 'Did you mean "workflow_store"?',
    "gpu_id=0": "deviceIds in model-config.yaml",
    "metrics_format=prometheus": 'Did you mean "metrics_mode"?',
    "config_path=/opt/config.properties": "--ts-config names the file",
    "tsConfigFile=config.properties": "snapshots",
    "version=0.12.0": "snapshots",
    "Job_Queue_Size=10": 'Did you mean "job_queue_size"?',
    "install_py_dep_per_module=true": 'Did you mean "install_py_dep_per_model"?',
    "number_of_netty_threads=32": "marq has no Netty",
}


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, encoding: str = "utf-8") -> Path:
        path = tmp_path / "config.properties"
        path.write_bytes("\n".join(lines).encode(encoding))
        return path

    return write


@pytest.mark.parametrize("line", LINES)
def test_a_line_without_an_effect_is_one_warning_with_its_place_and_what_would_have_one(
    file: Callable[..., Path], line: str
) -> None:
    path = file("job_queue_size=7", line)
    resolved = resolve(path, {}, {})
    [warning] = resolved.without_effect
    assert warning.startswith(f"{path}:2: ")
    assert line.partition("=")[0] in warning
    assert LINES[line] in warning
    assert resolved.settings.job_queue_size == 7
    with pytest.raises(SettingsError, match=r"config\.properties:2"):
        resolve(path, {"strict_config": True}, {})


@pytest.mark.parametrize("value", ["truedefault_response_timeout=60", "maybe", "true # yes", ""])
def test_a_boolean_that_is_none_counts_as_false_with_a_warning(file: Callable[..., Path], value: str) -> None:
    path = file(f"decode_input_request={value}")
    resolved = resolve(path, {}, {})
    assert resolved.settings.decode_input_request is False
    assert resolved.without_effect == [
        f"{path}:1: decode_input_request: {value!r} counts as false, as in TorchServe. Write true or false."
    ]
    with pytest.raises(SettingsError, match="Write true or false"):
        resolve(path, {"strict_config": True}, {})


def test_a_comment_behind_a_number_or_an_address_is_not_part_of_it(file: Callable[..., Path]) -> None:
    path = file("job_queue_size=7   # of each model", "inference_address=http://0.0.0.0:8080 # all")
    resolved = resolve(path, {}, {})
    assert resolved.settings.job_queue_size == 7
    assert resolved.settings.inference_address == "http://0.0.0.0:8080"
    assert resolved.notices == [
        f"{path}:1: job_queue_size: '# of each model' is not part of the value.",
        f"{path}:2: inference_address: '# all' is not part of the value.",
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_skipped(file: Callable[..., Path]) -> None:
    path = file("job_queue_size=7\r", "models={}\r", encoding="utf-8-sig")
    resolved = resolve(path, {}, {})
    assert resolved.settings.job_queue_size == 7
    assert resolved.without_effect == resolved.notices == []


def test_text_in_triple_quotes_is_a_comment(file: Callable[..., Path]) -> None:
    path = file("'''", "Settings of the batch queue", "and more text: here", "'''", "job_queue_size=7")
    resolved = resolve(path, {}, {})
    assert resolved.settings.job_queue_size == 7
    assert resolved.without_effect == []


def test_a_snapshot_over_several_lines_is_read(file: Callable[..., Path]) -> None:
    path = file(
        "model_snapshot={\\n\\", '  "name": "startup.cfg",\\n\\', '  "models": {\\n\\',
        '    "m": {\\n\\', '      "1.0": {\\n\\', '        "defaultVersion": true,\\n\\',
        '        "marName": "m.mar"\\n\\', "      }\\n\\", "    }\\n\\", "  }\\n\\", "}", "job_queue_size=7",
    )  # fmt: skip
    settings = resolve(path, {}, {}).settings
    assert (settings.models, settings.job_queue_size) == ("m=m.mar", 7)


def test_a_bad_number_is_an_error_that_says_what_is_allowed(file: Callable[..., Path]) -> None:
    with pytest.raises(SettingsError, match=r"config\.properties:1: job_queue_size: .*greater than 0"):
        resolve(file("job_queue_size=0"), {}, {})


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_a_server_with_such_a_file_and_all_planes_on_one_port_starts_and_answers(
    file: Callable[..., Path], make_archive: Callable[..., Path], tmp_path: Path,
    running: list[subprocess.Popen[bytes]],
) -> None:  # fmt: skip
    handler = "def handle(data, context):\n    return None if data is None else ['ok'] * len(data)\n"
    make_archive(tmp_path / "store", "m", handler, {"minWorkers": 1})
    address = f"http://127.0.0.1:{free_port()}"
    planes = [f"{plane}_address={address}" for plane in ("inference", "management", "metrics")]
    path = file(*planes, *LINES, "load_models=m.mar", "enable_model_api=truedefault_response_timeout=60")
    log = tmp_path / "out"
    with log.open("wb") as output:
        running.append(
            subprocess.Popen(
                [MARQ, "start", "--dt", "--model-store", tmp_path / "store", "--ts-config", path],
                env={**os.environ, "MARQ_STATE_DIR": str(tmp_path / "state")}, cwd=tmp_path,
                stdout=output, stderr=subprocess.STDOUT,
            )
        )  # fmt: skip

    def answers() -> bool:
        try:
            return httpx.post(f"{address}/predictions/m", timeout=60).text == "ok"
        except httpx.TransportError:
            return False

    wait_for(answers, 60, "an answer", log)
    assert httpx.get(f"{address}/models/m").json()[0]["modelName"] == "m"
    for line in LINES:
        assert log.read_text().count(f'"{line.partition("=")[0]}"') <= 1
        assert line.partition("=")[0] in log.read_text()
