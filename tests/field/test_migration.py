"""`marq migrate` says of each line of a TorchServe folder what a server would do with it."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from marq.settings.loading import resolve
from marq.settings.properties import SettingsError

MARQ = Path(sys.executable).with_name("marq")
MANIFEST = {"model": {"modelName": "digits", "modelVersion": "2.0", "handler": "image_classifier"}}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "served"
    (made / "model-store").mkdir(parents=True)
    return made


def migrate(folder, *arguments):
    return subprocess.run([MARQ, "migrate", folder, *arguments], capture_output=True, text=True, timeout=60)


def archive(path, **changes):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("MAR-INF/MANIFEST.json", json.dumps({**MANIFEST, **changes}))


def findings(folder):
    """The verdict and the text on each place, from the JSON."""
    rows = json.loads(migrate(folder, "--json").stdout)["findings"]
    return {
        f"{Path(row['file']).relative_to(folder)}:{row['line']}": (row["verdict"], row["text"])
        for row in rows
    }


def test_a_folder_that_runs_as_it_is_exits_with_0(folder):
    (folder / "config.properties").write_text("job_queue_size=5\nvmargs=-Xmx4g\n")
    archive(folder / "model-store" / "digits.mar")
    answer = migrate(folder)
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert lines[0] == f"{folder}/config.properties:1: runs: job_queue_size"
    assert lines[1].startswith(f"{folder}/config.properties:2: ignored: vmargs has no effect")
    assert lines[2] == f"{folder}/model-store/digits.mar: runs: model digits 2.0, handler image_classifier"
    assert lines[3] == "2 runs, 1 ignored, 0 change"


@pytest.mark.parametrize(
    "line", ["batch_size=4", "io_ratio=3", "decode_input_request=maybe", "job_queue_size=5 # five"]
)
def test_lines_without_effect_have_the_text_of_the_servers_log(folder, line):
    file = folder / "config.properties"
    file.write_text(f"{line}\n")
    resolved = resolve(file, {"state_dir": folder}, {})
    (logged,) = (*resolved.without_effect, *resolved.notices)
    assert findings(folder) == {"config.properties:1": ("ignored", logged.removeprefix(f"{file}:1: "))}


@pytest.mark.parametrize("line", ["job_queue_size=many", "models={", "inference_address=nowhere"])
def test_lines_that_keep_the_server_from_starting_have_the_text_of_its_error(folder, line):
    file = folder / "config.properties"
    file.write_text(f"\n{line}\n")
    with pytest.raises(SettingsError) as refused:
        resolve(file, {"state_dir": folder}, {})
    assert findings(folder) == {
        "config.properties:2": ("change", str(refused.value).removeprefix(f"{file}:2: ")),
    }
    assert migrate(folder).returncode == 1


def test_lines_without_effect_are_known_beside_one_that_stops_the_server(folder):
    (folder / "config.properties").write_text("vmargs=-Xmx4g\njob_queue_size=many\nload_models=all\n")
    found = findings(folder)
    verdicts = [found[f"config.properties:{line}"][0] for line in (1, 2, 3)]
    assert verdicts == ["ignored", "change", "runs"]


def test_an_archive_that_the_server_refuses_has_to_change(folder):
    (folder / "model-store" / "broken.mar").write_bytes(b"not a zip file")
    archive(folder / "model-store" / "cpp.mar", runtime="LSP")
    found = findings(folder)
    assert found["model-store/broken.mar:0"][0] == "change"
    assert found["model-store/cpp.mar:0"][0] == "change"
    assert "C++" in found["model-store/cpp.mar:0"][1]


def test_workflows_have_to_change_and_log4j_files_are_ignored(folder):
    (folder / "flow.war").write_bytes(b"")
    (folder / "log4j2.xml").write_text("<Configuration/>")
    found = findings(folder)
    assert found["flow.war:0"][0] == "change"
    assert found["log4j2.xml:0"][0] == "ignored"


def test_the_lines_of_container_files_that_name_torchserve_are_judged(folder):
    (folder / "Dockerfile").write_text(
        "# FROM pytorch/torchserve\nFROM pytorch/torchserve:0.12.0-gpu\nRUN apt-get install openjdk-17-jdk\n"
        'RUN pip install torchserve\nEXPOSE 8080 7070\nCMD ["torchserve", "--start"]\n'
        "ENV TS_JOB_QUEUE_SIZE=5\nRUN touch logs/ts_log.log\n"
    )
    (folder / "docker-compose.yml").write_text(
        "services:\n  ts:\n    image: pytorch/torchserve:latest\n"
        "    command: torchserve --start --log-config log4j2.xml\n    ports:\n      - 8080:8080\n"
    )
    (folder / "kserve.yaml").write_text(
        "spec:\n  predictor:\n    model:\n      protocolVersion: grpc-v2\n"
        "      image: pytorch/torchserve-kfs:0.9\n"
    )
    assert {place: verdict for place, (verdict, _) in findings(folder).items()} == {
        "Dockerfile:2": "change",
        "Dockerfile:3": "ignored",
        "Dockerfile:4": "change",
        "Dockerfile:5": "ignored",
        "Dockerfile:6": "runs",
        "Dockerfile:7": "runs",
        "docker-compose.yml:3": "change",
        "docker-compose.yml:4": "ignored",
        "kserve.yaml:4": "change",
        "kserve.yaml:5": "change",
    }


def test_the_variables_of_this_machine_do_not_count(folder, monkeypatch):
    monkeypatch.setenv("MARQ_JOB_QUEUE_SIZE", "nonsense")
    (folder / "config.properties").write_text("job_queue_size=5\n")
    assert migrate(folder).returncode == 0


def test_a_folder_without_files_of_torchserve_is_an_error(folder):
    answer = migrate(folder)
    assert answer.returncode == 1
    assert "has no files of TorchServe" in answer.stderr
