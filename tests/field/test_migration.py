"""`marq migrate` says of each line of a TorchServe folder what a server would do with it."""

import json
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner
from workflow_archives import pack_workflow

from marq.cli import torchserve_command as torchserve
from marq.cli.app import app
from marq.migration import words
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
    """Runs `marq migrate` in this process."""
    result = CliRunner().invoke(app, ["migrate", str(folder), *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


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
    command = [MARQ, "migrate", folder]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
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
    assert migrate(folder).exit_code == 1


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


def test_workflows_are_read_and_log4j_files_are_ignored(folder):
    (folder / "broken.war").write_bytes(b"")
    pack_workflow(folder, "flow", "dag: {unused: []}")
    (folder / "log4j2.xml").write_text("<Configuration/>")
    found = findings(folder)
    assert found["broken.war:0"][0] == "change"
    assert found["flow.war:0"] == ("runs", "workflow flow, handler flow_handler.py")
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
        "Dockerfile:6": "runs",
        "Dockerfile:7": "runs",
        "docker-compose.yml:3": "change",
        "docker-compose.yml:4": "ignored",
        "kserve.yaml:4": "runs",
        "kserve.yaml:5": "change",
    }


def judged(folder, name, text):
    """The texts on each line of one file, without those of other verdicts than the last."""
    (folder / name).write_text(textwrap.dedent(text))
    rows = json.loads(migrate(folder, "--json").stdout)["findings"]
    return [(row["line"], row["verdict"], row["text"]) for row in rows]


def test_an_instruction_over_several_lines_is_judged_where_its_words_stand(folder):
    text = """\
        ARG BASE=pytorch/torchserve:latest-gpu
        FROM $BASE
        RUN apt-get update && apt-get install -y g++ \\
            # Java
            openjdk-17-jdk
        RUN git clone https://github.com/pytorch/serve.git
        RUN pip install \\
              'torchserve>=0.9' \\
              torchvision && torch-model-archiver --version 1.0
        CMD ["torchserve", "--start", \\
             "--log-config", "x.xml", "--model", "m.mar"]
    """
    assert {line: verdict for line, verdict, _ in judged(folder, "Dockerfile", text)} == {
        1: "change", 5: "ignored", 6: "change", 8: "change", 9: "runs", 10: "runs", 11: "ignored",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("command", "verdict", "text"),
    [
        ('["torchserve", "--start", "--models=$MODEL.mar"]', "runs", "the command torchserve is the same."),
        ('["torchserve --start --ts-config c && sleep infinity"]', "runs", "is the same"),
        ('["sh", "-c", "torchserve --start && tail -f /dev/null"]', "runs", "is the same"),
        ("exec torchserve --start --foreground", "runs", "is the same"),
        ('["sh", "-c", "torchserve --start --ncs && cat key_file.json"]', "change", "add --foreground"),
        ("torchserve --start --models all", "change", "add --foreground"),
        ('["pip", "list", "&&", "torchserve", "--start"]', "change", "write sh -c"),
        ('["python", "-m", "ts.llm_launcher", "--model_id", "m"]', "runs", "ts.llm_launcher is the same"),
    ],
)
def test_a_command_runs_if_the_container_keeps_serving(folder, command, verdict, text):
    [(line, found, said)] = judged(folder, "Dockerfile", f"CMD {command}\n")
    assert (line, found) == (1, verdict)
    assert text in said


def test_the_flags_of_commands_are_those_of_torchserve():
    known = {flag for action in torchserve.parser()._actions for flag in action.option_strings}
    assert words.FLAGS | words.IGNORED_FLAGS.keys() == known
    ignored = {flag.removeprefix("--").replace("-", "_") for flag in words.IGNORED_FLAGS}
    # Plugins have an effect, but those of a TorchServe folder are jars
    assert ignored - {"ppath", "plugins_path"} == set(torchserve.WITHOUT_EFFECT)


@pytest.mark.parametrize(
    ("variable", "verdict"),
    [
        ("TS_CONFIG_FILE", "runs"),
        ("TS_JOB_QUEUE_SIZE", "runs"),
        ("TS_OPEN_INFERENCE_PROTOCOL", "runs"),
        ("TS_NUMBER_OF_NETTY_THREADS", "ignored"),
        ("TS_GRPC_INFERENCE_PORT", "runs"),
        ("TS_RUN_IN_DOCKER", "ignored"),
        ("JAVA_HOME", "ignored"),
        ("MODEL_NAME", None),
    ],
)
def test_a_variable_runs_if_a_server_reads_it(folder, variable, verdict):
    expected = [] if verdict is None else [verdict]
    assert [found for _, found, _ in judged(folder, "Dockerfile", f"ENV {variable}=1\n")] == expected
    compose = f"services:\n  ts:\n    environment:\n      - {variable}=1\n"
    (folder / "Dockerfile").unlink()
    assert [found for _, found, _ in judged(folder, "compose.yml", compose)] == expected


def test_a_kserve_manifest_without_an_image_starts_torchserves(folder):
    text = """\
        apiVersion: serving.kserve.io/v1beta1
        kind: InferenceService
        metadata:
          name: torchserve-mnist
        spec:
          predictor:
            pytorch:
              protocolVersion: v2
              storageUri: gs://models/image_classifier
    """
    found = judged(folder, "kserve.yaml", text)
    assert [(line, verdict) for line, verdict, _ in found] == [(7, "change"), (8, "runs")]
    assert "inference_address=http://0.0.0.0:8080" in found[0][2]


def test_grpc_of_torchserve_runs(folder):
    text = """\
        apiVersion: serving.kserve.io/v1beta1
        kind: InferenceService
        spec:
          predictor:
            pytorch:
              image: registry.local/marq
              ports:
                - containerPort: 7070 # torchserve grpc port
                  name: h2c
    """
    (folder / "config.properties").write_text("grpc_inference_port=7070\n")
    said = judged(folder, "kserve.yaml", text)
    assert said == [
        (1, "runs", "grpc_inference_port"),
    ]


def test_templates_of_helm_and_their_values_are_read(folder):
    (folder / "values.yaml").write_text("torchserve_image: pytorch/torchserve:latest-gpu\nname: torchserve\n")
    text = """\
        kind: Deployment
        metadata:
          name: torchserve
        spec:
          replicas: {{ .Values.deployment.replicas }}
          containers:
          - name: torchserve
            image: {{ .Values.torchserve_image }}
            args: ["torchserve", "--start", "--model-store", "/store"]
    """
    found = judged(folder, "deployment.yaml", text)
    assert [(line, verdict) for line, verdict, _ in found] == [(9, "runs"), (1, "change")]


RUNS = "the keys of a model"


def test_keys_of_models_with_state_run(folder):
    text = "minWorkers: 2\nsequenceBatching: true\nsequenceMaxIdleMSec: 9\ncontinuousBatching: true\n"
    found = judged(folder, "model-config.yaml", text)
    assert [(line, verdict, said) for line, verdict, said in found] == [(0, "runs", RUNS)]


def test_keys_of_models_that_marq_refuses_must_change(folder):
    text = "minWorkers: 2\ndeviceType: tpu\nmaxWorkers: 1\nuseJobTicket: true\nasyncCommunication: true\n"
    found = judged(folder, "model-config.yaml", text)
    assert [(line, verdict) for line, verdict, _ in found] == [(1, "change"), (2, "change"), (4, "change")]


def test_requirements_workflows_and_conda_environments_are_judged(folder):
    (folder / "requirements.txt").write_text("torch\ntorchserve==0.9 # the server\n")
    (folder / "flow.yaml").write_text("models:\n  m1: {url: a.mar}\ndag:\n  pre: [m1]\n")
    found = judged(
        folder, "environment.yml", "dependencies:\n  - pip:\n    - torch-model-archiver\n    - numpy\n"
    )
    assert [(line, verdict) for line, verdict, _ in found] == [(3, "change"), (0, "runs"), (2, "change")]


def test_properties_of_other_programs_are_not_judged(folder):
    assert judged(folder, "gradle.properties", "org.gradle.jvmargs=-Xmx1g\n") == []


def test_the_variables_of_this_machine_do_not_count(folder, monkeypatch):
    monkeypatch.setenv("MARQ_JOB_QUEUE_SIZE", "nonsense")
    (folder / "config.properties").write_text("job_queue_size=5\n")
    assert migrate(folder).exit_code == 0


def test_a_folder_without_files_of_torchserve_is_an_error(folder):
    answer = migrate(folder)
    assert answer.exit_code == 1
    assert "has no files of TorchServe" in answer.stderr
