"""`torch-model-archiver` option by option and message by message."""

import json
import tempfile
import zipfile
from pathlib import Path

import pytest

from archive.reader import describe
from model_archiver import ModelArchiverConfig
from model_archiver.arg_parser import ArgParser
from model_archiver.model_archiver_error import ModelArchiverError
from model_archiver.model_packaging import generate_model_archive

NEEDED = ("--model-name", "m", "-v", "1.0", "--handler", "h.py")
MANIFEST = "MAR-INF/MANIFEST.json"
EXISTS = (
    "{} already exists.\n"
    "Please specify --force/-f option to overwrite the model archive output file.\n"
    "See -h/--help for more details."
)
DEFAULT_HANDLERS = [
    *("base_handler", "text_classifier", "image_classifier", "object_detector"),
    *("image_segmenter", "dali_image_classifier", "vllm_handler", "trt_llm_handler"),
]


@pytest.fixture
def pack(in_process):
    return lambda *arguments: in_process(generate_model_archive, *arguments)


@pytest.fixture
def packed(pack):
    def packed(*arguments, path="m.mar"):
        answer = pack(*arguments)
        assert (answer.code, answer.log, answer.stderr) == (0, [], "")
        return describe(Path(path))

    return packed


def test_defaults_of_all_options(source):
    assert ArgParser.export_model_args_parser().parse_args(NEEDED).__dict__ == {
        "model_name": "m",
        "version": "1.0",
        "handler": "h.py",
        "serialized_file": None,
        "model_file": None,
        "extra_files": None,
        "runtime": "python",
        "export_path": str(source),
        "archive_format": "default",
        "force": False,
        "requirements_file": None,
        "config_file": None,
    }
    assert ModelArchiverConfig("m", "h.py", "1.0").export_path == str(source)


def test_success_is_silent_and_the_archive_is_in_the_current_directory(packed):
    assert packed(*NEEDED).names == ("h.py", MANIFEST)


def test_all_options_at_once_can_be_read_back(packed):
    found = packed(
        *(*NEEDED, "--serialized-file", "weights.pt", "--model-file", "./net.py", "--runtime", "python3"),
        *("--extra-files", "extra,labels.json", "-r", "reqs.in", "-c", "conf.yml", "--export-path", "out"),
        path="out/m.mar",
    )
    assert set(found.names) == {
        *("h.py", "weights.pt", "net.py", "labels.json", "reqs.in", "conf.yml", MANIFEST),
        *("a.txt", ".hidden", "old.pyc", "sub/b.txt"),
    }
    assert found.manifest.raw["runtime"] == "python3"
    assert found.manifest.raw["archiverVersion"] == "0.12.0"
    assert found.manifest.raw["model"] == {
        "modelName": "m",
        "serializedFile": "weights.pt",
        "handler": "h.py",
        "modelFile": "net.py",
        "modelVersion": "1.0",
        "requirementsFile": "reqs.in",
        "configFile": "conf.yml",
    }
    assert found.config.batch_size == 2


def test_options_may_be_abbreviated(packed):
    found = packed("--model-n", "m", "--vers", "2", "--hand", "h", "--ser", "weights.pt", "--req", "reqs.in")
    assert found.manifest.model_version == "2"
    assert found.manifest.serialized_file == "weights.pt"


def test_an_abbreviation_of_two_options_is_refused(pack):
    answer = pack("--model", "m", "-v", "1", "--handler", "h")
    assert answer.code == 2
    assert "ambiguous option: --model could match --model-name, --model-file" in answer.stderr


@pytest.mark.parametrize("missing", ["--model-name", "-v", "--handler"])
def test_a_missing_option_exits_with_2(pack, missing):
    at = NEEDED.index(missing)
    answer = pack(*NEEDED[:at], *NEEDED[at + 2 :])
    assert answer.code == 2
    assert answer.stderr.startswith("usage: torch-model-archiver [-h] --model-name")
    assert f"the following arguments are required: {missing}" in answer.stderr


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ("--runtime", ["python", "python3", "LSP"]),
        ("--archive-format", ["tgz", "no-archive", "zip-store", "default"]),
    ],
)
def test_an_unknown_choice_exits_with_2(pack, option, allowed):
    answer = pack(*NEEDED, option, "nonsense")
    assert answer.code == 2
    assert f"argument {option}: invalid choice: 'nonsense'" in answer.stderr
    assert all(repr(choice) in answer.stderr for choice in allowed)


@pytest.mark.parametrize(
    ("archive_format", "name"),
    [("default", "m.mar"), ("zip-store", "m.mar"), ("tgz", "m.tar.gz"), ("no-archive", "m")],
)
def test_each_archive_format(packed, archive_format, name):
    found = packed(*NEEDED, "--archive-format", archive_format, "--export-path", "out", path=f"out/{name}")
    assert set(found.names) == {"h.py", MANIFEST}
    assert [path.name for path in Path("out").iterdir()] == [name]


@pytest.mark.parametrize("handler", DEFAULT_HANDLERS)
def test_a_default_handler_is_named_and_not_copied(packed, handler):
    found = packed(*NEEDED, "--handler", handler)
    assert (found.names, found.manifest.handler) == ((MANIFEST,), handler)


@pytest.mark.parametrize("handler", ["h", "h.py", "h:func", "h.py:func", "./h", "../src/h"])
def test_a_handler_with_and_without_suffix_and_function(packed, handler):
    found = packed(*NEEDED, "--handler", handler)
    assert (found.names, found.manifest.handler) == (("h.py", MANIFEST), handler.rpartition("/")[2])


@pytest.mark.parametrize("handler", ["BaseHandler", "TorchScriptHandler", "lib"])
def test_handlers_of_the_runtime_lsp(packed, handler):
    found = packed(*NEEDED, "--runtime", "LSP", "--handler", handler)
    assert found.names == ((MANIFEST,) if handler != "lib" else ("lib.so", MANIFEST))


def test_an_empty_version_is_left_out(packed):
    assert "modelVersion" not in packed(*NEEDED, "--version", "").manifest.raw["model"]


@pytest.mark.parametrize("name", ["a b", "-m", "_m", "a/b", "m\u00e9"])
def test_bad_name(pack, name):
    message = (
        "Model name contains special characters.\n"
        r"The allowed regular expression filter for model name is: ^[A-Za-z0-9][A-Za-z0-9_\-.]*$"
    )
    answer = pack(*NEEDED, f"--model-name={name}")
    assert answer.code == 1
    assert answer.log == [f"ERROR - {message}"]
    assert (type(answer.error), str(answer.error)) == (ModelArchiverError, message)


@pytest.mark.parametrize(
    ("archive_format", "name"), [("default", "m.mar"), ("tgz", "m.tar.gz"), ("no-archive", "m")]
)
def test_output_exists_without_and_with_force(pack, source, archive_format, name):
    options = (*NEEDED, "--archive-format", archive_format)
    assert pack(*options).code == 0
    answer = pack(*options)
    message = EXISTS.format(source / name)
    assert (answer.code, answer.log) == (1, [f"ERROR - {message}"])
    assert (type(answer.error), str(answer.error)) == (ModelArchiverError, message)
    for force in ("-f", "--force"):
        answer = pack(*options, force)
        assert (answer.code, answer.log) == (0, [f"WARNING - Overwriting {source / name} ..."])


def test_force_merges_into_a_directory(pack):
    options = (*NEEDED, "--archive-format", "no-archive")
    pack(*options, "--extra-files", "labels.json")
    assert pack(*options, "-f", "--version", "2").code == 0
    assert Path("m/labels.json").exists()
    assert json.loads(Path("m", MANIFEST).read_text())["model"]["modelVersion"] == "2"


def test_export_path_is_a_file(pack):
    message = "Given export-path h.py is not a directory. Point to a valid export-path directory."
    answer = pack(*NEEDED, "--export-path", "h.py")
    assert (answer.code, answer.log) == (1, [f"ERROR - {message}"])
    assert isinstance(answer.error, ModelArchiverError)


def test_export_path_is_made_if_absent(pack):
    answer = pack(*NEEDED, "--export-path", "new/er")
    assert (answer.code, Path("new/er/m.mar").exists()) == (0, True)
    assert answer.log == ["WARNING - Export directory (new/er) does not exist. Creating..."]


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--handler", "nope", "nope.py"),
        ("--serialized-file", "nope.pt", "nope.pt"),
        ("--model-file", "nope.py", "nope.py"),
        ("--extra-files", "labels.json,nope", "nope"),
        ("-r", "nope.txt", "nope.txt"),
        ("-c", "nope.yaml", "nope.yaml"),
    ],
)
def test_missing_source_file(pack, option, value, told):
    answer = pack(*NEEDED, option, value)
    assert answer.code == 1
    assert (type(answer.error), str(answer.error)) == (FileNotFoundError, f"File does not exist: {told}")
    assert not Path("m.mar").exists()


def test_io_error_while_writing(pack):
    Path("out/m.mar").mkdir()
    answer = pack(*NEEDED, "--export-path", "out", "-f")
    message = 'Failed to save the model-archive to model-path "out". Check the file permissions and retry.'
    assert answer.code == 1
    assert answer.log == ["WARNING - Overwriting out/m.mar ...", f"ERROR - {message}"]
    assert isinstance(answer.error, ModelArchiverError)
    assert isinstance(answer.error.__cause__, OSError)


def test_a_wildcard_without_match_is_warned_of(pack):
    answer = pack(*NEEDED, "--extra-files", "*.json,*.nothing,[l]ab*")
    assert answer.code == 0
    assert answer.log == ["WARNING - Given wildcard pattern did not match any file: *.nothing"]
    assert describe(Path("m.mar")).names == ("h.py", "labels.json", MANIFEST)


def test_a_later_file_of_the_same_name_wins(packed, source):
    (source / "more").mkdir()
    (source / "more/h.py").write_text("later")
    packed(*NEEDED, "--extra-files", "more/h.py")
    with zipfile.ZipFile("m.mar") as archive:
        assert archive.read("h.py") == b"later"


def test_no_archive_in_the_directory_for_temporary_files_stays(pack, tmp_path, monkeypatch):
    # Given the directory that is for temporary files, and in it what happens to have the model's name
    temporary = tmp_path / "temporary"
    (temporary / "m2").mkdir(parents=True)
    (temporary / "m2/mine").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    # When archives are written there
    options = ("--archive-format", "no-archive", "--export-path", str(temporary))
    assert pack(*NEEDED, *options).code == 0
    assert pack(*NEEDED, "--model-name", "m2").code == 0
    # Then the result is there, and nothing else was touched
    assert (temporary / "m/h.py").exists()
    assert (temporary / "m2/mine").exists()
    assert {path.name for path in temporary.iterdir()} == {"m", "m2"}
