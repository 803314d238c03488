import json
import tarfile
import zipfile

import pytest


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A directory with all that an archive may be made of; the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "handler.py").write_text("def handle(data, context):\n    return data\n")
    (tmp_path / "net.py").write_text("class Net: pass\n")
    (tmp_path / "weights.pt").write_bytes(bytes(12_345))
    (tmp_path / "requirements.txt").write_text("einops\n")
    (tmp_path / "model-config.yaml").write_text("batchSize: 4\n")
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/labels.txt").write_text("a\nb\n")
    (tmp_path / "names.json").write_text("{}")
    return tmp_path


SMALL = ("archive", "--model-name", "m", "-v", "1.0", "--handler", "handler.py")
ALL = (
    *SMALL,
    "--serialized-file",
    "weights.pt",
    "--model-file",
    "net.py",
    "--extra-files",
    "extra,names.json",
    "-r",
    "requirements.txt",
    "-c",
    "model-config.yaml",
)
NAMES = {
    "handler.py",
    "net.py",
    "weights.pt",
    "labels.txt",
    "names.json",
    "requirements.txt",
    "model-config.yaml",
    "MAR-INF/MANIFEST.json",
}


def test_an_archive_holds_everything_and_its_listing_shows_names_and_sizes(run, sources):
    result = run(*ALL, "--export-path", "store")
    assert result.exit_code == 0
    with zipfile.ZipFile("store/m.mar") as packed:
        assert set(packed.namelist()) == NAMES
        manifest = json.loads(packed.read("MAR-INF/MANIFEST.json"))
    assert manifest["model"]["modelVersion"] == "1.0"
    assert all(name in result.stdout for name in NAMES)
    assert "12.3 kB" in result.stdout
    assert result.stdout.endswith("store/m.mar\n")


def test_a_dry_run_lists_the_same_members_and_writes_nothing(run, sources):
    result = run(*ALL, "--export-path", "store", "--dry-run")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in NAMES)
    assert "Nothing was written." in result.stdout
    assert not (sources / "store").exists()


def test_an_archive_is_replaced_only_if_forced(run, sources):
    assert run(*SMALL).exit_code == 0
    refused = run(*SMALL)
    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: m.mar already exists. Please specify --force")
    assert refused.stderr.count("\n") == 1
    assert run(*SMALL, "-f").exit_code == 0


def test_other_formats_are_listed_as_they_are(run, sources):
    assert "m/handler.py" in run(*SMALL, "--archive-format", "tgz").stdout
    with tarfile.open("m.tar.gz") as packed:
        assert set(packed.getnames()) == {"m/handler.py", "m/MAR-INF/MANIFEST.json"}
    assert "MAR-INF/MANIFEST.json" in run(*SMALL, "--archive-format", "no-archive").stdout
    assert (sources / "m/handler.py").is_file()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["written", "dry"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--handler", "nowhere.py"], "File does not exist: nowhere.py"),
        (["--extra-files", "extra,missing.txt"], "File does not exist: missing.txt"),
        (["--model-name", "a b"], "Model name contains special characters."),
        (["--runtime", "java"], "The runtime 'java' is unknown"),
        (["--archive-format", "rar"], "The archive format 'rar' is unknown"),
    ],
)
def test_errors_are_one_line_and_nothing_is_left(run, sources, wrong, message, dry):
    before = set(sources.iterdir())
    result = run(*SMALL, *wrong, *dry)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {message}")
    assert result.stderr.count("\n") == 1
    assert set(sources.iterdir()) == before


def test_an_archive_that_the_server_would_refuse_is_warned_of(run, sources):
    (sources / "model-config.yaml").write_text("batchSize: [1")
    result = run(*SMALL, "-c", "model-config.yaml")
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: marq will refuse this archive: ")


def test_the_listing_is_json_on_request(run, sources):
    planned = json.loads(run(*ALL, "--export-path", "store", "--dry-run", "--json").stdout)
    assert planned["path"] is None
    packed = json.loads(run(*ALL, "--export-path", "store", "--json").stdout)
    assert packed["path"] == "store/m.mar"
    assert {file["name"] for file in packed["files"]} == NAMES
    assert {"name": "weights.pt", "bytes": 12_345} in packed["files"]
