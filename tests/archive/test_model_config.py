import dataclasses

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from archive import model_config
from archive.errors import InvalidArchive, UnsafeArchive
from archive.model_config import ModelConfig, Torchrun

EVERYTHING = """
minWorkers: 1
maxWorkers: 2
batchSize: 4
maxBatchDelay: 50
responseTimeout: 10
startupTimeout: 20
deviceType: GPU
deviceIds: [0, 2]
parallelType: pp
parallelLevel: 3
maxRetryTimeoutInSec: 30
clientTimeoutInMills: 40
jobQueueSize: 5
useJobTicket: true
sequenceMaxIdleMSec: 60
sequenceTimeoutMSec: 70
maxSequenceJobQueueSize: 8
maxNumSequence: 9
sequenceBatching: true
continuousBatching: false
asyncCommunication: true
useVenv: yes
batching: fixed
maxAttempts: 2
maxRequestsPerReplica: 1000
maxReplicaMemoryMB: 2048
sequenceDrainSec: 5
targetQueueMs: 500
scaleDownDelaySec: 60
idleTimeoutSec: 300
replicasPerDevice: 2
webhookUrl: https://example.org/hook
callerTag: owner
callerWeights: alice=3,bob=1
callerQuota: 1000
handler: {profile: true}
"""


def test_every_key_is_read():
    config = ModelConfig.parse(EVERYTHING)
    assert config.warnings == ()
    assert config.raw["handler"] == {"profile": True}
    values = {key: value for key, value in vars(config).items() if key not in ("raw", "warnings", "faults")}
    assert values == {
        "min_workers": 1,
        "max_workers": 2,
        "batch_size": 4,
        "max_batch_delay_ms": 50,
        "response_timeout_s": 10,
        "startup_timeout_s": 20,
        "device_type": "gpu",
        "device_ids": (0, 2),
        "parallel_type": "pp",
        "parallel_level": 3,
        "torchrun": None,
        "max_retry_timeout_s": 30,
        "client_timeout_ms": 40,
        "job_queue_size": 5,
        "use_job_ticket": True,
        "sequence_max_idle_ms": 60,
        "sequence_timeout_ms": 70,
        "max_sequence_job_queue_size": 8,
        "max_num_sequence": 9,
        "sequence_batching": True,
        "continuous_batching": False,
        "async_communication": True,
        "use_venv": True,
        "batching": "fixed",
        "max_attempts": 2,
        "max_requests_per_replica": 1000,
        "max_replica_memory_mb": 2048,
        "sequence_drain_s": 5,
        "target_queue_ms": 500,
        "scale_down_delay_s": 60,
        "idle_timeout_s": 300,
        "replicas_per_device": 2,
        "webhook_url": "https://example.org/hook",
        "caller_tag": "owner",
        "caller_weights": "alice=3,bob=1",
        "caller_quota": 1000,
    }


@pytest.mark.parametrize("text", ["", b"", "---\n", "# only a comment\n"])
def test_an_empty_file_sets_nothing(text):
    assert ModelConfig.parse(text) == ModelConfig()
    assert ModelConfig().batching == "adaptive"


def test_each_rule_sets_a_field_that_exists():
    known = {field.name for field in dataclasses.fields(ModelConfig)}
    assert {rule.field for rule in model_config._KEYS.values()} <= known
    known = {field.name for field in dataclasses.fields(Torchrun)}
    assert {rule.field for rule in model_config._TORCHRUN_KEYS.values()} == known


def test_values_below_torchserves_minimum_are_raised_to_it():
    config = ModelConfig.parse("{minWorkers: -3, batchSize: 0}")
    assert (config.min_workers, config.batch_size) == (1, 1)
    assert config.warnings == config.faults == ()


def test_zero_counts_as_unset_where_it_does_for_torchserve():
    config = ModelConfig.parse("{maxWorkers: 0, maxBatchDelay: 0, jobQueueSize: 0, parallelLevel: 0}")
    assert config == ModelConfig(raw=config.raw)


@pytest.mark.parametrize(
    "line",
    [
        "minWorkers: two",
        "minWorkers: 1.0",
        "minWorkers: true",
        "minWorkers: 99999999999",
        "maxWorkers: -1",
        "maxBatchDelay: -5",
        "responseTimeout: 0",
        "startupTimeout: null",
        "clientTimeoutInMills: -1",
        "jobQueueSize: -1",
        "deviceType: null",
        "maxAttempts: null",
    ],
)
def test_a_wrong_value_without_harm_is_ignored_with_a_warning_that_names_it(line):
    config = ModelConfig.parse(line)
    (warning,) = config.warnings
    assert warning.startswith(line.partition(" ")[0])
    assert "it must be " in warning
    assert dataclasses.replace(config, raw={}, warnings=()) == ModelConfig()


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("deviceType: tpu", "one of cpu, gpu, cuda, rocm, xpu, mps"),
        ("deviceType: 1", "one of cpu, gpu, cuda, rocm, xpu, mps"),
        *(
            (f"deviceIds: {wrong}", "a list of device numbers")
            for wrong in ("[0, a]", "[0, -1]", "[true]", "0")
        ),
        ("parallelType: dp", "one of pp, tp, pptp, custom"),
        ("parallelLevel: -1", "an integer of at least 0"),
        ("torchrun: 4", "a map"),
        ("torchrun: {nproc-per-node: 0}", "an integer of at least 1"),
        ("torchrun: {nproc-per-node: gpu}", "an integer of at least 1"),
        ("torchrun: {nnodes: a}", "an integer of at least 1"),
        ("maxRetryTimeoutInSec: -1", "an integer of at least 0"),
        *(
            (f"{mode}: 1", "true or false")
            for mode in ("useJobTicket", "sequenceBatching", "continuousBatching", "asyncCommunication")
        ),
        ("useVenv: please", "true or false"),
        ("sequenceMaxIdleMSec: 1 min", "an integer of at least 0"),
        ("sequenceTimeoutMSec: -1", "an integer of at least 0"),
        ("maxNumSequence: 0", "an integer of at least 1"),
        ("maxSequenceJobQueueSize: many", "an integer of at least 1"),
        ("batching: 7", "adaptive, fixed, or the name of a plugin"),
        ("maxAttempts: 0", "an integer of at least 1"),
        ("targetQueueMs: 0", "an integer of at least 1"),
        ("idleTimeoutSec: -1", "an integer of at least 0"),
        ("webhookUrl: 7", "a string"),
    ],
)
def test_a_wrong_value_with_which_the_model_would_run_otherwise_is_a_fault_with_what_is_right(line, right):
    config = ModelConfig.parse(line)
    (fault,) = config.faults
    key = line.replace("torchrun: {", "torchrun.").rpartition(": ")[0]
    assert fault.startswith(f"{key} must be {right}, got ")
    assert config.warnings == ()


def test_names_of_gpus_mean_gpu():
    for name in ("GPU", "cuda", "rocm", "xpu", "MPS"):
        assert ModelConfig.parse(f"deviceType: {name}").device_type == "gpu"


def test_a_zero_that_means_never_or_no_limit_is_right():
    names = (
        "maxRequestsPerReplica",
        "maxReplicaMemoryMB",
        "idleTimeoutSec",
        "replicasPerDevice",
        "callerQuota",
    )
    config = ModelConfig.parse("".join(f"{name}: 0\n" for name in names))
    assert config == ModelConfig(raw=config.raw)


def test_keys_of_another_spelling_are_left_to_the_handler():
    config = ModelConfig.parse("{BatchSize: 3, 7: x}")
    assert config == ModelConfig(raw={"BatchSize": 3, 7: "x"})


def test_sequence_settings_need_an_idle_time():
    config = ModelConfig.parse("{sequenceTimeoutMSec: 7, maxNumSequence: 3, maxSequenceJobQueueSize: 2}")
    assert config.max_num_sequence is config.sequence_timeout_ms is config.max_sequence_job_queue_size is None


def test_torchrun_sets_the_parallel_level():
    config = ModelConfig.parse(
        "{parallelLevel: 2, torchrun: {nproc-per-node: 4, OMP_NUMBER_THREADS: 3, node-rank: a, other: 1, "
        "nproc_per_node: 8}}"
    )
    assert config.parallel_level == 4
    assert config.torchrun == Torchrun(nproc_per_node=4, omp_num_threads=3)
    assert config.warnings == (
        "torchrun: unsupported parameter other",
        "torchrun: unsupported parameter nproc_per_node: did you mean nproc-per-node?",
        "torchrun.node-rank: 'a' is ignored; it must be an integer of at least 0.",
    )


def test_a_syntax_error_names_file_and_line():
    with pytest.raises(InvalidArchive, match=r"conf\.yaml: line 2, column \d+: "):
        ModelConfig.parse("minWorkers: 1\nmaxWorkers: [", "conf.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "- a",
        "text",
        "a: !!python/object/apply:os.system [ls]",
        "a: !!bool x",
        "a: !!timestamp x",
        "a: 2024-99-99",
        b"\xff\xfe\x00",
        "a: \x00",
        "? {a: b}\n: c",
    ],
)
def test_what_is_no_map_of_plain_values_is_refused(text):
    with pytest.raises(InvalidArchive, match=r"model-config\.yaml"):
        ModelConfig.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
        "a: &a [*a]",
    ],
    ids=["billion laughs", "endless"],
)
def test_aliases_that_expand_without_end_are_refused(text):
    with pytest.raises(UnsafeArchive, match="aliases"):
        ModelConfig.parse(text)


MERGED = "a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(20)) + "}\n" + "".join(
    f"a{n}: &a{n}\n  <<: [{', '.join([f'*a{n - 1}'] * 20)}]\n" for n in range(1, 7)
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (MERGED, "its merge keys expand to more than 50000 values"),
        ("<<: &a\n  <<: *a", "its merge keys expand|recursion"),
        ("batchSize: 0x" + "f" * 5000, "the number in line 1 has more than 100 digits"),
        ("a: 1\nbatchSize: 1" + ":59" * 100_000, "the number in line 2 has more than 100 digits"),
        ("a: 1" + "0" * 5000 + ".5", "the number in line 1 has more than 100 digits"),
        ("[" * 100_000, "nested deeper than 100 levels"),
        ("- " * 100_000, "nested deeper than 100 levels"),
        ("{a: " * 100_000, "nested deeper than 100 levels"),
        ("a: [" + "x," * 60_000 + "x]", "it has more than 50000 values"),
        ("# " + "x" * (1 << 20), "has 1048578 bytes; at most 1048576 are read"),
    ],
    ids=lambda value: value[:12],
)
def test_a_text_that_would_take_hours_or_all_memory_is_refused_with_the_bound(text, bound):
    with pytest.raises(InvalidArchive, match=bound):
        ModelConfig.parse(text)


def test_merge_keys_work():
    config = ModelConfig.parse("base: &base {batchSize: 4, maxWorkers: 2}\n<<: *base\nmaxWorkers: 3")
    assert (config.batch_size, config.max_workers) == (4, 3)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(sorted(model_config._KEYS)), values))
def test_any_value_is_either_used_or_warned_of(raw):
    config = ModelConfig.parse(yaml.safe_dump(raw))
    texts = (*config.warnings, *config.faults)
    ignored = {text.partition(" ")[0].rstrip(":").partition(".")[0] for text in texts}
    assert ignored <= raw.keys()
    for key in ignored - {"torchrun", "parallelLevel", "batching"}:
        assert getattr(config, model_config._KEYS[key].field) is None


@settings(max_examples=150)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!?|>'\"%@#, \n\t0"), max_size=40) | st.binary(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        ModelConfig.parse(text)
    except InvalidArchive as error:
        assert str(error)
