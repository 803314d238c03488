import errno
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from plugin_packages import add_package

from marq import errors, keys
from marq.connections import clients
from marq.control import registration
from marq.control.registration import Registration, resolve
from marq.control.startup import JoinedRegistry, load_startup_models, startup_registrations
from marq.plugins.protocols import BATCHING, STORES
from marq.registry.models import Registry
from marq.registry.name_lease import NameLease, Owner
from marq.registry.names import MODEL_RULE
from marq.settings.fields import Settings

CPUS = os.cpu_count() or 1


@pytest.fixture
def store(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    return store


@pytest.fixture
def pack(store):
    """Writes an archive with this manifest (None: without one) and model-config.yaml."""

    def pack(file="m.mar", config=None, manifest="usual", **model):
        usual = {"modelName": "m", "modelVersion": "1.0", "handler": "handler.py"}
        written = {"runtime": "python", "model": {**usual, **model}}
        if config is not None:
            written["model"]["configFile"] = "model-config.yaml"
        with zipfile.ZipFile(store / file, "w") as archive:
            archive.writestr("handler.py", "def handle(data, context): ...")
            archive.writestr("model-config.yaml", json.dumps(config or {}))
            if manifest == "usual":
                archive.writestr("MAR-INF/MANIFEST.json", json.dumps(written))
        return file

    return pack


@pytest.fixture
def settings(store):
    def make(models_json=None, **given):
        defaults = {"m": {"1.0": models_json}} if models_json else {}
        return Settings(model_store=store, model_settings=json.dumps(defaults), **given)

    return make


@pytest.fixture
def registry(redis_url):
    return Registry(clients.client(redis_url))


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def load(settings, registry, server="here"):
    """Registers the start-up models of a server with a node of this name."""
    return load_startup_models(settings, registry, server)


def run_node(name, registry):
    """Holds the lease of a node that runs, for longer than a test."""
    NameLease(registry.redis, keys.node_owner(name), Owner.this_process(), lease_ms=600_000).hold()


def refusal(kind, settings, item, **options):
    with pytest.raises(kind) as caught:
        resolve(settings, item, **options)
    return caught.value


# each setting from each source


@pytest.mark.parametrize(
    ("field", "yaml_key", "json_key", "server", "default"),
    [
        ("batch_size", "batchSize", "batchSize", {}, 1),
        ("max_batch_delay_ms", "maxBatchDelay", "maxBatchDelay", {}, 100),
        ("response_timeout_s", "responseTimeout", "responseTimeout", {"default_response_timeout": 9}, 120),
        ("startup_timeout_s", "startupTimeout", "startupTimeout", {"default_startup_timeout": 9}, 120),
        ("max_attempts", "maxAttempts", "maxAttempts", {}, 3),
    ],
)
def test_the_request_wins_over_the_yaml_over_the_models_json_over_the_default(
    pack, settings, field, yaml_key, json_key, server, default
):
    def given_by(request):
        return {} if request is None else {field: request}

    def resolved(request=None, yaml=None, models_json=None, **given):
        pack(config={yaml_key: yaml} if yaml else None)
        models = {json_key: models_json} if models_json else None
        return getattr(
            resolve(settings(models, **given), Registration("m.mar", settings=given_by(request))), field
        )

    assert resolved(request=5, yaml=6, models_json=7, **server) == 5
    assert resolved(yaml=6, models_json=7, **server) == 6
    assert resolved(models_json=7, **server) == 7
    assert resolved(**server) == (9 if server else default)
    assert resolved() == default


@pytest.mark.parametrize(
    ("field", "key", "server", "default"),
    [
        ("max_retry_timeout_s", "maxRetryTimeoutInSec", {}, 300),
        ("client_timeout_ms", "clientTimeoutInMills", {}, 0),
        ("job_queue_size", "jobQueueSize", {"job_queue_size": 9}, 100),
    ],
)
def test_what_no_request_sets_comes_from_the_yaml_the_models_json_or_the_default(
    pack, settings, field, key, server, default
):
    def resolved(yaml=None, models_json=None, **given):
        pack(config={key: yaml} if yaml else None)
        models = {key: models_json} if models_json else None
        return getattr(resolve(settings(models, **given), Registration("m.mar")), field)

    assert resolved(yaml=6, models_json=7, **server) == 6
    assert resolved(models_json=7, **server) == 7
    assert resolved(**server) == (9 if server else default)
    assert resolved() == default


def test_what_only_the_yaml_sets(pack, settings):
    config = {
        "deviceType": "gpu", "deviceIds": [1, 0], "parallelType": "pp", "batching": "fixed",
        "torchrun": {"nproc-per-node": 2},
    }  # fmt: skip
    spec = resolve(settings(), Registration(pack(config=config)))
    assert (spec.device_type, spec.device_ids, spec.batching) == ("gpu", [1, 0], "fixed")
    assert (spec.parallel_type, spec.parallel_level) == ("pp", 2)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"parallelType": "tp", "parallelLevel": 2}, (2, 2, 1)),
        ({"parallelType": "custom", "parallelLevel": 2}, (2, 0, 1)),  # one process with two devices
        (
            {"parallelType": "custom", "torchrun": {"nproc-per-node": 2, "OMP_NUMBER_THREADS": 4}},
            (2, 2, 4),
        ),
        ({"parallelLevel": 2}, (0, 0, 1)),
    ],
)
def test_how_many_devices_and_processes_a_replica_has(pack, settings, config, expected):
    spec = resolve(settings(), Registration(pack(config=config)))
    assert (spec.parallel_level, spec.ranks, spec.rank_threads) == expected


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            {"parallelType": "sp", "parallelLevel": 2},
            "parallelType must be one of pp, tp, pptp, custom, got 'sp'",
        ),
        (
            {"parallelType": "tp", "torchrun": {"nnodes": 2, "nproc-per-node": 2}},
            "torchrun: nnodes must be 1",
        ),
        (
            {"parallelType": "tp", "parallelLevel": 4, "torchrun": {"nproc-per-node": 2}},
            "parallelLevel is 4, and torchrun starts 2 processes (nproc-per-node). Set both",
        ),
    ],
)
def test_a_group_that_cannot_run_is_refused(pack, settings, config, said):
    message = refusal(errors.InvalidModel, settings(), Registration(pack(config=config))).message
    assert said in message


def test_keys_that_cannot_be_followed_are_refused_before_the_server_starts_with_them(
    pack, settings, registry
):
    pack(config={"deviceType": "tpu", "minWorkers": 3, "maxWorkers": 1})
    said = (
        "deviceType must be one of cpu, gpu, cuda, rocm, xpu, mps, got 'tpu'\n"
        "minWorkers is 3, and maxWorkers is 1: maxWorkers must be at least minWorkers"
    )
    assert refusal(errors.InvalidModel, settings(), Registration("m.mar")).message == said
    assert load(settings(models="m.mar"), registry) == [("m.mar", said)]
    assert list(registry.models()) == []


def test_what_has_no_effect_is_kept_as_notices_and_logged(pack, settings, caplog):
    config = {"parallelType": "tp", "batchSize": "four", "maxBatchDelay": 0}
    spec = resolve(settings(), Registration(pack(config=config), runtime="python3"))
    assert spec.config_notices == [
        "batchSize: 'four' is ignored; it must be an integer.",
        "maxBatchDelay counts as not set, as in TorchServe: it is 0",
        "parallelType has no effect without parallelLevel or torchrun",
    ]
    assert [record.message for record in caplog.records] == [f"m: {each}" for each in spec.config_notices]


def test_a_size_that_is_kept_from_before_must_go_with_the_settings(pack, settings, registry):
    pack(config={"useJobTicket": True, "idleTimeoutSec": 60})
    load(settings(models="m.mar"), registry)
    [spec] = registry.models()
    registry.scale(spec, 0, 2)
    [(_, said)] = load_startup_models(settings(models="m.mar"), registry, "here", restored="")
    assert said.startswith("useJobTicket and idleTimeoutSec exclude each other")


def test_a_yaml_that_sets_nothing_leaves_the_request_its_timeouts(pack, settings):
    item = Registration(pack(config={"handler": {"labels": 3}}), settings={"response_timeout_s": 7})
    assert resolve(settings(), item).response_timeout_s == 7


def test_a_model_that_rests_must_say_how_many_replicas_requests_may_start(pack, settings):
    item = Registration(pack(config={"minWorkers": 0, "idleTimeoutSec": 60}))
    assert refusal(errors.InvalidModel, settings(), item).message == (
        "idleTimeoutSec with minWorkers: 0 needs maxWorkers, the most replicas that requests may start: "
        "for example maxWorkers: 1"
    )


@pytest.mark.parametrize("value", [0, -3, True, "8", None, [4]])
def test_only_positive_integers_of_the_models_json_count(pack, settings, value):
    assert resolve(settings({"batchSize": value}), Registration(pack())).batch_size == 1


@pytest.mark.parametrize(
    ("request_", "yaml", "server", "expected"),
    [
        (3, {"minWorkers": 2, "maxWorkers": 4}, 5, (3, 3)),
        (0, {"minWorkers": 2, "maxWorkers": 4}, 5, (0, 0)),
        (None, {"minWorkers": 2, "maxWorkers": 4}, 5, (2, 4)),
        (None, {"minWorkers": 2}, 5, (2, 2)),
        (None, {"minWorkers": 0, "maxWorkers": 2}, 5, (1, 2)),  # as TorchServe raises it
        (None, {"minWorkers": 0, "maxWorkers": 2, "idleTimeoutSec": 60}, 5, (0, 2)),
        (3, {"minWorkers": 0, "maxWorkers": 2, "idleTimeoutSec": 60}, 5, (3, 3)),
        (None, {"maxWorkers": 2}, 5, (5, 5)),
        (None, None, 5, (5, 5)),
        (None, None, 0, (0, 0)),
    ],
)
def test_how_many_workers_a_request_gets(pack, settings, request_, yaml, server, expected):
    item = Registration(pack(config=yaml), initial_workers=request_)
    given = settings({"minWorkers": 7, "maxWorkers": 8}, default_workers_per_model=server)
    spec = resolve(given, item)
    assert (spec.min_workers, spec.max_workers) == expected


@pytest.mark.parametrize(
    ("yaml", "models_json", "server", "expected"),
    [
        ({"minWorkers": 2, "maxWorkers": 4}, {"minWorkers": 7}, 5, (2, 4)),
        (None, {"minWorkers": 7, "maxWorkers": 8}, 5, (7, 8)),
        (None, {"minWorkers": 7}, 5, (7, 7)),
        (None, {"minWorkers": 3}, 5, (3, 5)),
        (None, {"maxWorkers": 2}, 5, (2, 2)),
        (None, {"minWorkers": 7, "maxWorkers": 3}, 5, (7, 7)),
        (None, None, 5, (5, 5)),
        (None, None, 0, (CPUS, CPUS)),
    ],
)
def test_how_many_workers_a_model_gets_at_start_up(pack, settings, yaml, models_json, server, expected):
    given = settings(models_json, default_workers_per_model=server)
    spec = resolve(given, Registration(pack(config=yaml)), loaded_at_startup=True)
    assert (spec.min_workers, spec.max_workers) == expected


def test_at_start_up_each_gpu_gets_a_worker(pack, settings, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3,5")
    assert resolve(settings(), Registration(pack()), loaded_at_startup=True).min_workers == 5
    assert resolve(settings(number_of_gpu=3), Registration("m.mar"), loaded_at_startup=True).min_workers == 3


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"batchSize": 10_001}, "batchSize must be at most 10000, got 10001"),
        ({"minWorkers": 1, "maxWorkers": 2**31 - 1}, "maxWorkers must be at most 10000, got 2147483647"),
    ],
)
def test_sizes_that_no_host_can_serve_are_refused(pack, settings, config, message):
    error = refusal(errors.InvalidModel, settings(), Registration(pack(config=config)))
    assert error.message == message


SEQUENCES = {
    "sequenceBatching": True, "sequenceMaxIdleMSec": 8, "sequenceTimeoutMSec": 9, "maxNumSequence": 7,
    "maxSequenceJobQueueSize": 6, "sequenceDrainSec": 0,
}  # fmt: skip
EXCLUDES = "{} and {} exclude each other"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"sequenceBatching": True},
            "sequenceBatching needs sequenceMaxIdleMSec, the time in milliseconds after which an idle "
            "sequence ends. Set it, for example to 60000.",
        ),
        (
            {**SEQUENCES, "asyncCommunication": True},
            EXCLUDES.format("sequenceBatching", "asyncCommunication"),
        ),
        ({**SEQUENCES, "useJobTicket": True}, EXCLUDES.format("sequenceBatching", "useJobTicket")),
        (
            {"continuousBatching": True, "asyncCommunication": True},
            EXCLUDES.format("continuousBatching", "asyncCommunication"),
        ),
        (
            {"continuousBatching": True, "useJobTicket": True},
            EXCLUDES.format("continuousBatching", "useJobTicket"),
        ),
        (
            {"useJobTicket": True, "asyncCommunication": True},
            EXCLUDES.format("useJobTicket", "asyncCommunication"),
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_a_way_out(pack, settings, config, message):
    error = refusal(errors.InvalidModel, settings(), Registration(pack(config=config)))
    assert error.message.startswith(message)
    assert "Set it" in error.message or "Switch one of them off." in error.message


def test_sequences_and_continuous_batching_are_resolved_without_a_warning(pack, settings, caplog):
    spec = resolve(settings(), Registration(pack(config={**SEQUENCES, "continuousBatching": True})))
    assert (spec.sequence_batching, spec.continuous_batching) == (True, True)
    assert (spec.sequence_max_idle_ms, spec.sequence_timeout_ms, spec.sequence_drain_s) == (8, 9, 0)
    assert (spec.max_num_sequence, spec.max_sequence_job_queue_size) == (7, 6)
    assert not caplog.records


def test_modes_that_are_switched_off_are_not_warned_of(pack, settings, caplog):
    resolve(settings(), Registration(pack(config={"continuousBatching": False, "useJobTicket": False})))
    assert not caplog.records


def test_the_handler_is_the_requests_then_the_manifests_then_the_servers(pack, settings):
    with_default = settings(default_service_handler="d.py:handle")
    assert resolve(with_default, Registration(pack(), handler="r.py")).handler == "r.py"
    assert resolve(with_default, Registration(pack())).handler == "handler.py"
    assert resolve(with_default, Registration(pack(handler=None))).handler == "d.py:handle"
    error = refusal(errors.InvalidModel, settings(), Registration("m.mar"))
    assert error.message.startswith("Handler is not defined.")


def test_the_runtime_is_the_requests_then_the_models_jsons_then_the_manifests(pack, settings):
    assert (
        resolve(settings({"runtimeType": "LSP"}), Registration(pack(), runtime="python3")).runtime
        == "python3"
    )
    assert resolve(settings({"runtimeType": "LSP"}), Registration(pack())).runtime == "LSP"
    assert resolve(settings(), Registration(pack())).runtime == "python"


@pytest.mark.parametrize("runtime", ["PYTHON", "java", ""])
def test_an_unknown_runtime_is_refused(pack, settings, runtime):
    error = refusal(errors.BadRequest, settings(), Registration(pack(), runtime=runtime))
    assert error.message == f"Invalid RuntimeType value: {runtime}"


def test_a_spec_knows_where_it_came_from(pack, settings, store):
    spec = resolve(settings(service_envelope="json"), Registration(pack()))
    assert (spec.key, spec.url, spec.archive) == ("m/1.0", "m.mar", str(store / "m.mar"))
    assert (spec.envelope, spec.loaded_at_startup) == ("json", False)
    assert resolve(settings(), Registration("m.mar"), loaded_at_startup=True).loaded_at_startup


# names


@pytest.mark.parametrize("name", ["m", "res-18", "a.b_c", "9", "A" * 100, "_m", "a b", "modèle", "감성분석"])
def test_names_that_are_allowed(pack, settings, name):
    assert resolve(settings(), Registration(pack(), model_name=name)).name == name
    assert resolve(settings(), Registration(pack(modelName=name))).name == name


@pytest.mark.parametrize(
    "name",
    ["a ", "{m}", "a/b", "-m", ".m", "m\n", "A" * 101, "ä" * 61, "a:b", "m*", "a=b", "a@b", "100%"],
)
def test_names_that_are_not(pack, settings, name):
    for item in (Registration(pack(), model_name=name), Registration(pack(modelName=name))):
        error = refusal(errors.BadRequest, settings(), item)
        assert error.message.startswith("Invalid model name: ")
        assert MODEL_RULE in error.message


@pytest.mark.parametrize("version", ["1.0", "v2-rc.1", "1.0+cu121"])
def test_versions_that_are_allowed(pack, settings, version):
    assert resolve(settings(), Registration(pack(modelVersion=version))).version == version


@pytest.mark.parametrize("version", ["../../x", "1/2", "1,2", "a b", "1" * 51])
def test_versions_that_are_not(pack, settings, version):
    error = refusal(errors.BadRequest, settings(), Registration(pack(modelVersion=version)))
    assert error.message.startswith("Invalid model version in the manifest: ")


def test_an_archive_without_a_name_needs_one_from_the_request(pack, settings):
    error = refusal(errors.InvalidModel, settings(), Registration(pack(modelName=None)))
    assert error.message.partition("\n")[0] == "Model name is not defined."
    assert resolve(settings(), Registration("m.mar", model_name="given")).name == "given"


def test_at_start_up_the_file_gives_the_name(pack, settings):
    given = settings(default_service_handler="handler.py")
    spec = resolve(given, Registration(pack("resnet-18.mar", manifest=None)), loaded_at_startup=True)
    assert (spec.name, spec.version) == ("resnet_18", "1.0")


# archives that cannot be used


def test_a_file_that_is_not_there_is_a_404(settings):
    error = refusal(errors.ModelNotFound, settings(), Registration("nope.mar"))
    assert (error.status, error.message) == (404, "Model not found at: nope.mar")


def test_a_broken_file_is_an_invalid_model(settings, store):
    (store / "broken.mar").write_bytes(b"PK is all it has")
    assert refusal(errors.InvalidModel, settings(), Registration("broken.mar")).status == 400


def test_a_download_that_fails_tells_why(settings):
    given = settings(allowed_urls="file://.*,http://127.0.0.1:1/.*")
    error = refusal(errors.DownloadFailed, given, Registration("http://127.0.0.1:1/m.mar"))
    first, _, reason = error.message.partition("\n")
    assert first == "Failed to download archive from: http://127.0.0.1:1/m.mar"
    assert reason


def test_a_download_never_replaces_a_file(pack, settings, tmp_path):
    url = f"file://{tmp_path}/elsewhere/{pack()}"
    given = settings(allowed_urls="file://.*")
    error = refusal(errors.ServiceError, given, Registration(url))
    assert (error.status, error.type) == (500, "InternalServerException")
    assert error.message.partition("\n")[0] == "Model file already exists m.mar"
    # but a server that starts again uses what an earlier start has downloaded
    assert resolve(given, Registration(url), loaded_at_startup=True).url == url


def test_a_download_that_is_no_model_does_not_stay(settings, store, tmp_path):
    (tmp_path / "bad.mar").write_bytes(b"nothing")
    given = settings(allowed_urls="file://.*")
    refusal(errors.InvalidModel, given, Registration(f"file://{tmp_path}/bad.mar"))
    assert list(store.iterdir()) == []


def test_a_file_that_may_not_be_read_is_told(pack, settings, monkeypatch):
    def fail(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), Path("/store/m.mar"))

    monkeypatch.setattr(registration, "describe", fail)
    error = refusal(errors.ServiceError, settings(), Registration(pack()))
    assert error.message == "Failed to save model: m.mar\n/store/m.mar: Permission denied"


# start-up


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        ("", []),
        (" a.mar , n=b.mar,, ", [Registration("a.mar"), Registration("b.mar", model_name="n")]),
        ("n = b.mar", [Registration("b.mar", model_name="n")]),
        ("https://h/m.mar?a=b", [Registration("https://h/m.mar?a=b")]),
        ("n=https://h/m.mar?a=b", [Registration("https://h/m.mar?a=b", model_name="n")]),
        ("n=", [Registration("n=")]),
        ("=b.mar", [Registration("=b.mar")]),
    ],
)
def test_how_start_up_items_are_read(settings, models, expected):
    assert startup_registrations(settings(models=models)) == expected


def test_all_means_what_is_in_the_store(pack, settings, store):
    for file in ("b.mar", "a.mar", ".hidden.mar", "notes.txt"):
        pack(file)
    (store / "folder").mkdir()
    found = startup_registrations(settings(models=" ALL "))
    assert [item.url for item in found] == ["a.mar", "b.mar", "folder"]


def test_what_can_be_loaded_is_loaded_and_the_rest_is_told(pack, settings, registry):
    pack("a.mar", modelName="a")
    pack("b.mar", modelName="a")
    loaded = load(settings(models="a.mar,nope.mar,b.mar,c=b.mar"), registry)
    assert loaded == [
        ("a.mar", None),
        ("nope.mar", "Model not found at: nope.mar"),
        ("b.mar", "Model version 1.0 is already registered for model a"),
        ("b.mar", None),
    ]
    assert {spec.key: spec.url for spec in registry.models()} == {"a/1.0": "a.mar", "c/1.0": "b.mar"}


def test_a_restart_takes_the_new_configuration(pack, settings, registry):
    pack(config={"batchSize": 2})
    load(settings(models="m.mar"), registry)
    pack(config={"batchSize": 4})
    load(settings(models="m.mar"), registry)
    assert registry.models().get("m").batch_size == 4


def test_a_server_that_joins_keeps_the_size_and_the_generation(pack, settings, registry):
    # Given a model that was loaded at start-up, then scaled and reloaded
    given = settings(models=pack())
    load(given, registry)
    registry.scale(registry.models().get("m"), 5, 6)
    registry.reload(registry.models().get("m"))
    # When another server joins with the same settings
    load(given, JoinedRegistry(registry.redis))
    # Then the model stays as it is
    spec = registry.models().get("m")
    assert (spec.min_workers, spec.max_workers, spec.generation) == (5, 6, 1)
    # But other settings count
    pack(config={"batchSize": 4})
    load(given, JoinedRegistry(registry.redis))
    assert registry.models().get("m").batch_size == 4


def test_what_is_not_asked_for_any_more_is_unregistered(pack, settings, registry):
    for name in ("a", "b", "c"):
        pack(f"{name}.mar", modelName=name)
    registry.register(resolve(settings(), Registration("c.mar")))  # by a client
    load(settings(models="a.mar,b.mar"), registry)
    load(settings(models="b.mar"), registry)
    assert sorted(spec.name for spec in registry.models()) == ["b", "c"]
    load(settings(), registry)
    assert sorted(spec.name for spec in registry.models()) == ["c"]


def test_a_second_server_leaves_the_models_of_one_that_runs(pack, settings, registry, caplog):
    # Given a server that runs, and one that was killed
    for name in ("first", "both", "killed", "second"):
        pack(f"{name}.mar", modelName=name)
    run_node("one", registry)
    load(settings(models="first.mar,both.mar"), registry, "one")
    killed = resolve(settings(), Registration("killed.mar"), loaded_at_startup=True)
    registry.register(replace(killed, started_by=["gone"]))
    # When a second one is started with other models
    load(settings(models="both.mar,second.mar"), registry, "two")
    # Then the models of the first stay, and the log says so once
    assert sorted(spec.name for spec in registry.models()) == ["both", "first", "second"]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "models that other servers on this Redis were started with stay registered: first 1.0 "
        "(servers of the nodes: one)"
    ]
    # And each server takes away only the models that it alone was started with
    run_node("two", registry)
    load(settings(models="first.mar"), registry, "one")
    assert sorted(spec.name for spec in registry.models()) == ["both", "first", "second"]
    load(settings(models="second.mar"), registry, "two")
    assert sorted(spec.name for spec in registry.models()) == ["first", "second"]


def test_an_archive_that_cannot_be_read_today_stays_registered(pack, settings, registry, store):
    load(settings(models=pack()), registry)
    (store / "m.mar").unlink()
    assert load(settings(models="m.mar"), registry)[0][1]
    assert registry.models().get("m").url == "m.mar"


def test_a_new_version_in_the_same_file_replaces_the_old_one(pack, settings, registry):
    load(settings(models=pack(modelVersion="9.0")), registry)
    registry.register(resolve(settings(), Registration(pack("x.mar", modelVersion="99.0"))))
    load(settings(models=pack(modelVersion="10.0")), registry)
    models = registry.models()
    assert sorted(models.versions("m")) == ["10.0", "99.0"]
    assert models.get("m").version == "10.0"


def test_the_models_json_may_choose_the_default_version(pack, store, registry):
    for version in ("1.0", "2.0"):
        pack(f"m{version}.mar", modelVersion=version)
    chosen = json.dumps({"m": {"1.0": {"defaultVersion": False}, "2.0": {"defaultVersion": True}}})
    given = Settings(model_store=store, models="m1.0.mar,m2.0.mar", model_settings=chosen)
    load(given, registry)
    assert registry.models().get("m").version == "2.0"


def test_s3_signatures_are_refused_with_a_way_out(settings):
    item = Registration("https://h/m.mar", s3_sse_kms=True)
    assert "presigned" in refusal(errors.DownloadFailed, settings(allowed_urls=".*"), item).message


def test_a_batching_policy_must_be_marq_s_own_or_a_plugin_s(settings, pack, tmp_path):
    item = Registration(pack(config={"batching": "like_sizes"}))
    error = refusal(errors.InvalidModel, settings(), item)
    assert error.message == "batching: there is no policy like_sizes, only adaptive, fixed"
    folder = add_package(tmp_path / "plugins", "sizes", "", {BATCHING: {"like_sizes": "LikeSizes"}})
    assert resolve(settings(plugins_path=str(folder)), item).batching == "like_sizes"
    assert resolve(settings(), Registration(pack(config={"batching": "FIXED"}))).batching == "fixed"


STORE = """
class Attic:
    protocol = 1
    schemes = ("attic",)

    def pieces(self, url):
        yield ARCHIVE, None
"""


def test_an_archive_comes_from_the_store_of_a_plugin(settings, pack, store, tmp_path):
    packed = store / pack()
    archive = packed.read_bytes()
    packed.unlink()
    source = STORE.replace("ARCHIVE", repr(archive))
    folder = add_package(tmp_path / "plugins", "attics", source, {STORES: {"attic": "Attic"}})
    item = Registration("attic://box/n.mar")
    found = resolve(settings(plugins_path=str(folder), allowed_urls="attic://.*"), item)
    assert (found.name, found.archive) == ("m", str(store / "n.mar"))
    assert (
        "does not match any allowed URL"
        in refusal(
            errors.ModelNotFound, settings(plugins_path=str(folder)), Registration("attic://box/o.mar")
        ).message
    )


def test_a_webhook_of_all_jobs_that_none_could_send_is_refused(pack, settings):
    asked = Registration(pack(config={"webhookUrl": "http://10.0.0.1/hook"}))
    error = refusal(errors.InvalidModel, settings(), asked)
    assert error.message == (
        "webhookUrl: 10.0.0.1 is not a public address; "
        "the server's setting webhook_allowed_hosts can name it."
    )
    assert resolve(settings(webhook_allowed_hosts="10.0.0.0/8"), asked).webhook_url == "http://10.0.0.1/hook"
