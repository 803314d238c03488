from dataclasses import replace

from thread_replica import make_spec

from marq.registry.notices import cannot_load, notices, own_error
from marq.registry.reports import PoolReport, ReplicaReport
from marq.registry.sizes.hosts import Device, Host

ON_GPU = ReplicaReport(0, 1, "cuda:0", "ready", started=0.0)
ON_CPU = replace(ON_GPU, device="cpu")
SPEC = make_spec("m", device_type="gpu")


def hosts(*gpus: int) -> dict[str, Host]:
    """Nodes a, b, ... with so many GPUs each."""
    devices = (tuple(Device(number) for number in range(count)) for count in gpus)
    return {name: Host("cuda", found, cores=8) for name, found in zip("abc", devices, strict=False)}


def pool(node: str, *replicas: ReplicaReport, **report) -> PoolReport:
    return PoolReport(node, len(replicas), replicas=replicas, **report)


def test_a_model_for_gpus_that_runs_on_the_cpu_says_where():
    pools = [pool("b", ON_CPU), pool("a", ON_CPU, ON_CPU), pool("c", ON_GPU)]
    assert notices(SPEC, pools, 3, {}) == [
        "a, b: m has deviceType gpu, and this host has no GPU: its replicas run on the CPU"
    ]


def test_a_model_that_runs_as_it_was_asked_to_has_no_notices():
    assert notices(SPEC, [pool("a", ON_GPU)], 1, hosts(1)) == []
    assert notices(make_spec("m"), [pool("a", ON_CPU)], 1, hosts(1)) == []
    assert notices(make_spec("m", device_type="cpu", device_ids=[7]), [pool("a", ON_CPU)], 1, hosts(1)) == []


def test_reasons_of_pools_that_do_not_fail_are_notices():
    pools = [pool("a", reason="too large"), pool("b", reason="ended", failures=1)]
    assert notices(make_spec("m"), pools, 1, {}) == ["a: too large"]


def test_what_of_the_configuration_has_no_effect_comes_first():
    spec = make_spec("m", config_notices=["maxWorkers has no effect without minWorkers"], device_ids=[7, 8])
    assert notices(spec, [pool("a", reason="too large")], 1, hosts(2)) == [
        "maxWorkers has no effect without minWorkers",
        "a: too large",
        "deviceIds has no effect: the GPUs are 0, 1, not [7, 8]; all may be used",
    ]
    assert notices(make_spec("m", device_ids=[1, 8]), [], 1, hosts(2)) == []


def test_a_group_without_enough_gpus_says_so():
    settings = {"device_type": "gpu", "parallel_type": "tp", "parallel_level": 4, "ranks": 4}
    [said] = notices(make_spec("m", **settings), [], 2, hosts(2, 0))
    assert said == (
        "m 1.0: 2 of 2 replicas have no device: a replica needs 4 GPUs (parallelLevel or nproc-per-node), "
        "and no host has so many for it: the largest has 2. Lower the number; with deviceType: cpu it "
        "uses none"
    )
    assert notices(make_spec("m", **settings), [], 2, hosts(4)) == []
    assert notices(make_spec("m", **settings), [], 2, hosts(0)) == []  # it runs on the CPU, as in TorchServe


RAISED = """replica 0 (pid 7) ended with exit code 1
Traceback (most recent call last):
  File "/state/model-dirs/1c40/handler.py", line 4, in handle
    for row in data:
TypeError: 'NoneType' object is not iterable
"""
WRAPPED = """
The above exception was the direct cause of the following exception:

workers.handler.loader.InitializationFailed: Cannot initialise handler.py:handle: {error}
"""


def test_a_model_that_cannot_be_loaded_says_its_own_exception_with_file_and_line():
    own = "TypeError: 'NoneType' object is not iterable (handler.py, line 4)"
    assert cannot_load(SPEC, RAISED) == f'Model "m" Version 1.0 cannot be loaded: {own}'
    assert own_error(RAISED + WRAPPED.format(error="TypeError: 'NoneType' object is not iterable")) == own


def test_a_hint_behind_the_exception_is_kept():
    hint = "requirements.txt of the archive is not installed: install_py_dep_per_model=true does that"
    wrapped = WRAPPED.format(error=f"TypeError: 'NoneType' object is not iterable. {hint}")
    assert own_error(RAISED + wrapped).endswith(f"iterable (handler.py, line 4). {hint}")


def test_an_import_that_fails_in_the_archive_is_named_by_its_line():
    reason = """Traceback (most recent call last):
  File "/state/model-dirs/1c40/bad.py", line 1, in <module>
    import notthere
ModuleNotFoundError: No module named 'notthere'

The above exception was the direct cause of the following exception:

ImportError: handler bad cannot be imported: No module named 'notthere'
"""
    wrapped = WRAPPED.format(error="ImportError: handler bad cannot be imported: No module named 'notthere'")
    assert own_error(reason + wrapped) == "ModuleNotFoundError: No module named 'notthere' (bad.py, line 1)"


def test_a_place_that_the_exception_names_itself_is_not_repeated():
    reason = """  File "/state/model-dirs/1c40/syn.py", line 1
    def handle(data, context)
                             ^
SyntaxError: expected ':'
"""
    wrapped = WRAPPED.format(error="SyntaxError: expected ':' (syn.py, line 1)")
    assert own_error(reason + wrapped) == "SyntaxError: expected ':' (syn.py, line 1)"


def test_an_error_without_a_frame_of_the_archive_is_said_without_our_class():
    wrapped = "workers.handler.loader.EntryPointNotFound: Cannot find the entry point of handler a.py: ..."
    assert own_error(wrapped) == "Cannot find the entry point of handler a.py: ..."


def test_without_an_exception_at_the_end_the_last_line_is_the_reason():
    late = "not ready within the start-up time-out of 60 s"
    assert own_error(RAISED + late) == late
    assert own_error("replica 0 (pid 7) ended with signal 9\n") == "replica 0 (pid 7) ended with signal 9"
    assert own_error("") == "unknown"
