"""The checks of `marq doctor`, one by one."""

import itertools
import os
import socket
from pathlib import Path

import certificates
import pytest
import redis
from ports import free_port

from marq.host import doctor, server_file
from marq.host.doctor import OK, WARNING, WRONG, Finding
from marq.settings import loading

SLOW = "torch"  # its check starts a process that imports torch; the checks before it are quick
NO_IMPORT = "print('2.9|-')"  # what that process runs where torch is not the subject


@pytest.fixture
def resolve(tmp_path):
    """Settings with Unix sockets and a model store, unless others are given."""
    (tmp_path / "store").mkdir()
    planes = ("inference", "management", "metrics")
    addresses = {f"{plane}_address": f"unix:{tmp_path / plane}" for plane in planes}
    known = {"state_dir": tmp_path / "state", "model_store": tmp_path / "store", **addresses}
    known["enable_grpc"] = False

    def resolve(config: Path | None = None, **given) -> loading.Resolved:
        return loading.resolve(config, known | given, {})

    return resolve


@pytest.fixture
def examine(resolve, monkeypatch):
    """The findings of the quick checks by name."""
    monkeypatch.setattr(doctor, "TORCH_CODE", NO_IMPORT)

    def examine(*arguments, **given) -> dict[str, Finding]:
        findings = doctor.examine(resolve(*arguments, **given))
        return {each.name: each for each in itertools.takewhile(lambda each: each.name != SLOW, findings)}

    return examine


def test_where_all_is_well_every_check_says_so(resolve, monkeypatch):
    monkeypatch.setattr(doctor, "TORCH_CODE", NO_IMPORT)
    found = list(doctor.examine(resolve()))
    assert {finding.name: finding.state for finding in found} == dict.fromkeys(
        (
            *("settings", "redis", "inference_address", "management_address", "metrics_address"),
            *("state directory", "logs", "model store", "torch", "devices", "packages"),
        ),
        OK,
    )
    assert not any(finding.advice for finding in found)


def test_keys_without_effect_are_a_warning(examine, tmp_path):
    config = tmp_path / "config.properties"
    config.write_text("io_ratio=1\n")
    finding = examine(config)["settings"]
    assert finding.state == WARNING
    assert finding.text.startswith(f"{config}:1: io_ratio has no effect: ")


def test_a_redis_without_an_append_only_file_is_a_warning(examine, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.config_set("appendonly", "no")
        try:
            found = examine(redis_url=redis_url)
        finally:
            client.config_set("appendonly", "yes")
    assert found["redis"].state == OK
    assert found["redis persistence"].advice == "CONFIG SET appendonly yes"


def test_a_lane_that_no_pool_reads_is_a_warning(examine, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        client.xadd("marq:{typo}:normal:1.0", {"body": b"x"})
    finding = examine(redis_url=redis_url)["lanes"]
    assert finding.state == WARNING
    assert finding.text == "no pool reads marq:{typo}:normal:1.0: its 1 entries are not answered"


def test_torch_is_not_looked_at_where_gateways_alone_run(resolve, redis_url):
    settings = resolve().settings
    settings.state_dir.mkdir()
    server = server_file.Server(os.getpid(), redis_url, "http://127.0.0.1:1", "unix:/m", runs_node=False)
    server_file.write(settings.state_dir, server)
    [finding] = [each for each in doctor.examine(resolve()) if each.name == "torch"]
    assert (finding.state, finding.text) == (OK, "not needed: this host has gateways alone")


def test_a_torch_that_is_not_installed_is_a_warning(resolve, monkeypatch):
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    [finding] = list(doctor._torch(None))
    assert (finding.state, finding.text) == (WARNING, "not installed")


def test_a_redis_that_evicts_requests_is_wrong(examine, redis_url):
    with redis.Redis.from_url(redis_url) as client:
        before = client.config_get("maxmemory*")
        client.config_set("maxmemory", "1gb")
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            found = examine(redis_url=redis_url)
        finally:
            for name in ("maxmemory", "maxmemory-policy"):
                client.config_set(name, before[name])
    assert found["redis memory"].state == WRONG
    assert "allkeys-lru" in found["redis memory"].text


def test_a_redis_that_does_not_answer_is_wrong_and_its_password_stays_secret(examine):
    finding = examine(redis_url=f"redis://:secret@127.0.0.1:{free_port()}")["redis"]
    assert finding.state == WRONG
    assert "secret" not in finding.text


def test_a_taken_port_is_wrong(examine):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = examine(metrics_address=f"http://127.0.0.1:{port}")["metrics_address"]
    assert finding.state == WRONG
    assert str(port) in finding.text


def test_ports_of_grpc_are_checked_too(examine, tmp_path):
    grpc = {"enable_grpc": True, "grpc_inference_address": f"unix:{tmp_path / 'grpc'}"}
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = examine(**grpc, grpc_management_port=port)
    assert (found["inference gRPC"].state, found["management gRPC"].state) == (OK, WRONG)
    assert f"Process {os.getpid()} " in found["management gRPC"].text
    assert not (tmp_path / "grpc").exists()


def test_grpc_of_the_server_that_runs_here_is_not_taken(examine, resolve, redis_url, tmp_path):
    grpc = {f"grpc_{name}_address": f"unix:{tmp_path / name}.grpc" for name in ("inference", "management")}
    settings = resolve(enable_grpc=True, **grpc).settings
    settings.state_dir.mkdir()
    facts = {"settings": settings.model_dump(mode="json")}
    server = server_file.Server(os.getpid(), redis_url, settings.inference_address, "unix:/m", **facts)
    server_file.write(settings.state_dir, server)
    finding = examine(enable_grpc=True, **grpc)["inference gRPC"]
    assert (finding.state, finding.text.endswith(f"(pid {os.getpid()})")) == (OK, True)


def test_a_free_socket_is_not_left_behind(examine, tmp_path):
    assert examine()["inference_address"].text.endswith("is free")
    assert not (tmp_path / "inference").exists()


def test_without_metrics_their_address_is_not_checked(examine):
    assert "metrics_address" not in examine(enable_metrics_api=False)


def test_addresses_of_the_server_that_runs_here_are_not_taken(examine, resolve, redis_url):
    # Given a server of this state directory, which uses another Redis than the settings name
    settings = resolve().settings
    settings.state_dir.mkdir()
    server = server_file.Server(os.getpid(), redis_url, settings.inference_address, "http://127.0.0.1:1")
    server_file.write(settings.state_dir, server)
    # Then
    found = examine(redis_url="redis://127.0.0.1:1")
    assert found["redis"].state == OK
    assert f"used by the server that runs (pid {os.getpid()})" in found["inference_address"].text
    assert found["management_address"].text.endswith("is free")


@pytest.mark.parametrize(
    ("days", "state", "text"),
    [(100, OK, "valid for"), (5, WARNING, "valid for"), (-3, WRONG, "expired 3 days ago")],
)
def test_a_certificate_is_judged_by_the_days_that_it_is_valid(examine, tmp_path, days, state, text):
    pair = certificates.make(tmp_path, days=days)
    finding = examine(
        inference_address=f"https://127.0.0.1:{free_port()}",
        private_key_file=pair.key,
        certificate_file=pair.certificate,
    )["certificate"]
    assert finding.state == state
    assert finding.text.startswith(text)


def test_https_without_a_certificate_is_wrong(examine):
    finding = examine(inference_address=f"https://127.0.0.1:{free_port()}")["certificate"]
    assert finding.state == WRONG
    assert "needs a certificate" in finding.text


def test_a_full_disk_is_a_warning(examine, monkeypatch):
    monkeypatch.setattr(doctor, "LEAST_FREE_BYTES", 1 << 80)
    found = examine()
    assert (found["state directory"].state, found["logs"].state) == (WARNING, WARNING)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_wrong(examine, tmp_path):
    (tmp_path / "state").mkdir(mode=0o500)
    assert examine()["state directory"].state == WRONG


def test_the_archives_of_the_model_store_are_counted(examine, tmp_path):
    (tmp_path / "store" / "m.mar").touch()
    assert examine()["model store"].text == f"{tmp_path / 'store'}: 1 archives"


@pytest.mark.parametrize(("store", "state"), [(None, WARNING), (Path("/nowhere"), WRONG)])
def test_a_model_store_that_is_missing(examine, store, state):
    assert examine(model_store=store)["model store"].state == state


def findings_after_torch(resolved) -> dict[str, Finding]:
    found = itertools.dropwhile(lambda each: each.name != SLOW, doctor.examine(resolved))
    return {finding.name: finding for finding in found}


def test_a_torch_that_cannot_be_imported_or_takes_too_long_is_wrong(resolve, monkeypatch):
    monkeypatch.setattr(doctor, "TORCH_CODE", "raise ImportError('libcudart.so is missing')")
    finding = findings_after_torch(resolve())["torch"]
    assert finding.text == "cannot be imported: ImportError: libcudart.so is missing"
    monkeypatch.setattr(doctor, "TORCH_CODE", "import time; time.sleep(600)")
    monkeypatch.setattr(doctor, "TORCH_TIMEOUT_S", 0.1)
    finding = findings_after_torch(resolve())["torch"]
    assert (finding.state, finding.text) == (WRONG, "its import takes more than 0.1 s")


def test_more_gpus_than_there_are_is_a_warning(resolve, monkeypatch):
    monkeypatch.setattr(doctor, "TORCH_CODE", NO_IMPORT)
    found = findings_after_torch(resolve(number_of_gpu=1000))
    assert found["torch"].text == "2.9, without CUDA"
    assert (found["devices"].state, found["devices"].advice) == (WARNING, "Lower number_of_gpu.")
