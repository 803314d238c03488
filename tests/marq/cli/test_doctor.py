import json
import os
import socket
import subprocess
from pathlib import Path

import certificates
import pytest
import redis
from ports import free_port
from support import MARQ


@pytest.fixture(autouse=True)
def empty_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ("inference", "management", "metrics")
    lines = [f"{name}_address=http://127.0.0.1:{free_port()}\n" for name in names]
    Path("config.properties").write_text("".join(lines))
    Path("store").mkdir()


# What stands for torch where its slow import is not the subject.
QUICK_TORCH = """
__version__ = "2.9"

class version:
    cuda = "13.0"

class cuda:
    device_count = staticmethod(lambda: 1)
    get_device_name = staticmethod(lambda number: "a GPU")
"""


@pytest.fixture
def quick(tmp_path):
    """The environment in which torch is imported at once."""
    folder = tmp_path / "quick"
    folder.mkdir()
    (folder / "torch.py").write_text(QUICK_TORCH)
    return {"PYTHONPATH": str(folder)}


def doctor(*arguments, **environment):
    return subprocess.run(
        [MARQ, "doctor", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env={**os.environ, **environment},
    )


def findings(*arguments, **environment):
    done = doctor(*arguments, "--json", **environment)
    assert not done.stderr
    return done.returncode, {finding["name"]: finding for finding in json.loads(done.stdout)}


def test_where_all_is_well_each_check_says_so():
    code, found = findings("--model-store", "store")
    assert code == 0
    assert {finding["state"] for finding in found.values()} == {"ok"}
    assert found.keys() == {
        *("settings", "redis", "inference_address", "management_address", "metrics_address"),
        *("state directory", "logs", "model store", "torch", "devices", "packages"),
    }
    assert "Valkey" in found["redis"]["text"]
    assert f"{Path('store').resolve()}: 0 archives" == found["model store"]["text"]


def test_for_people_it_prints_a_line_for_each_and_what_to_do(quick):
    done = doctor(**quick)
    assert done.returncode == 0
    assert "!!  model store: not given: no model can be registered" in done.stdout
    assert "Give --model-store DIR" in done.stdout
    assert "ok  torch: " in done.stdout


def test_what_is_wrong_is_told_with_what_to_do(tmp_path, quick):
    # Given a Redis that does not answer, a taken port, a store that is not there, an expired certificate
    pair = certificates.make(tmp_path, days=-3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with Path("config.properties").open("a") as file:
            file.write(f"management_address=https://127.0.0.1:{port}\nio_ratio=1\n")
            file.write(f"private_key_file={pair.key}\ncertificate_file={pair.certificate}\n")
        code, found = findings(
            "--redis-url", f"redis://:secret@127.0.0.1:{free_port()}", "--model-store", "no", **quick
        )
    # Then the command fails, and each of them has an advice
    assert code == 1
    wrong = {name for name, finding in found.items() if finding["state"] == "wrong"}
    assert wrong == {"redis", "management_address", "certificate", "model store"}
    assert all(found[name]["advice"] for name in wrong)
    assert "secret" not in json.dumps(found)
    assert f"uses port {port}: stop it" in found["management_address"]["text"]
    assert "expired 3 days ago" in found["certificate"]["text"]
    assert found["settings"]["state"] == "warning"


def test_each_finding_is_a_line_with_its_remedy(run, monkeypatch):
    monkeypatch.setattr("marq.host.doctor.TORCH_CODE", "print('2.9|-')")
    result = run("doctor", "--model-store", "no")
    assert result.exit_code == 1
    assert "ok  torch: 2.9, without CUDA" in result.stdout
    assert "xx  model store: " in result.stdout
    assert "    Correct the path." in result.stdout
    found = {each["name"]: each for each in json.loads(run("doctor", "--json").stdout)}
    assert found["model store"]["state"] == "warning"


def test_a_redis_that_may_lose_requests_is_told(redis_url, quick):
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            code, found = findings("--redis-url", redis_url, "--model-store", "store", **quick)
        finally:
            client.config_set("maxmemory", "0")
            client.config_set("maxmemory-policy", "noeviction")
    assert code == 1
    assert found["redis memory"]["advice"] == "CONFIG SET maxmemory-policy noeviction"


def test_a_package_that_hides_one_of_marqs_is_told(quick):
    module = Path(quick["PYTHONPATH"]) / "ts" / "__init__.py"
    module.parent.mkdir()
    module.touch()
    code, found = findings("--model-store", "store", **quick)
    assert code == 1
    assert f"ts is {module}" in found["packages"]["text"]


def test_a_torch_that_cannot_be_imported_is_told(tmp_path):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "torch.py").write_text("raise ImportError('libcudart.so is missing')")
    code, found = findings("--model-store", "store", PYTHONPATH=str(tmp_path / "broken"))
    assert code == 1
    assert found["torch"]["text"] == "cannot be imported: ImportError: libcudart.so is missing"


def test_what_the_server_on_this_host_uses_is_not_taken_for_a_conflict(shared_server, quick):
    server = shared_server.server
    config = server.log.parent / "config.properties"
    state = {"MARQ_STATE_DIR": str(server.state_dir), **quick}
    code, found = findings("--ts-config", str(config), "--model-store", "store", **state)
    assert code == 0
    assert f"used by the server that runs (pid {server.process.pid})" in found["inference_address"]["text"]
    assert found["redis"]["text"].startswith("unix://:***@")
