from dataclasses import replace

from thread_replica import make_spec

from marq.registry.notices import notices
from marq.registry.reports import PoolReport, ReplicaReport

ON_GPU = ReplicaReport(0, 1, "cuda:0", "ready", started=0.0)
ON_CPU = replace(ON_GPU, device="cpu")
SPEC = make_spec("m", device_type="gpu")


def pool(node: str, *replicas: ReplicaReport, **report) -> PoolReport:
    return PoolReport(node, len(replicas), replicas=replicas, **report)


def test_a_model_for_gpus_that_runs_on_the_cpu_says_where():
    pools = [pool("b", ON_CPU), pool("a", ON_CPU, ON_CPU), pool("c", ON_GPU)]
    assert notices(SPEC, pools) == [
        "a, b: m has deviceType gpu, and this host has no GPU: its replicas run on the CPU"
    ]


def test_a_model_that_runs_as_it_was_asked_to_has_no_notices():
    assert notices(SPEC, [pool("a", ON_GPU)]) == []
    assert notices(make_spec("m"), [pool("a", ON_CPU)]) == []
    assert notices(make_spec("m", device_type="cpu"), [pool("a", ON_CPU)]) == []


def test_reasons_of_pools_that_do_not_fail_are_notices():
    pools = [pool("a", reason="too large"), pool("b", reason="ended", failures=1)]
    assert notices(make_spec("m"), pools) == ["a: too large"]
