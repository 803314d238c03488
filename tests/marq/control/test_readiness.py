"""How a registration learns what nodes could install, and a change whether gateways know it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from thread_replica import make_spec

from marq import keys
from marq.connections import clients
from marq.control.readiness import wait_for_dependencies, wait_for_gateways, wait_for_workers
from marq.errors import Conflict, ModelNotFound, ModelVersionNotFound
from marq.registry.models import HEARTBEAT_LIMIT_S, Registry
from marq.registry.reports import PoolReport, ReplicaReport

SPEC = make_spec("m", requirements="requirements.txt")
BUSY = PoolReport("a", 0, preparing=True)
DONE = replace(BUSY, preparing=False)
FAILED = replace(DONE, failures=1, reason="no such package")


@pytest.fixture
def registry(redis_url):
    with clients.client(redis_url) as client:
        registry = Registry(client)
        registry.register(SPEC)
        yield registry


@pytest.fixture
def node(registry):
    """A node that is alive."""
    registry.redis.zadd(keys.NODES, {"a": registry.now()})


def test_without_a_node_nobody_is_waited_for(registry):
    registry.redis.zadd(keys.NODES, {"gone": registry.now() - 60})
    began = time.monotonic()
    assert wait_for_dependencies(registry, SPEC, registry.now()) == ""
    assert time.monotonic() - began < HEARTBEAT_LIMIT_S


@pytest.mark.parametrize(("report", "reason"), [(DONE, ""), (FAILED, "no such package")])
def test_the_first_answer_counts(registry, node, report, reason):
    since = registry.now()
    registry.report(SPEC, "m-1.0@a", BUSY)
    threading.Timer(0.5, registry.report, (SPEC, "m-1.0@a", report)).start()
    began = time.monotonic()
    assert wait_for_dependencies(registry, SPEC, since) == reason
    assert time.monotonic() - began > 0.4


def test_one_node_that_could_install_is_enough(registry, node):
    registry.report(SPEC, "m-1.0@a", FAILED)
    registry.report(SPEC, "m-1.0@b", DONE)
    assert wait_for_dependencies(registry, SPEC, 0) == ""


def test_a_failing_handler_is_no_failed_installation(registry, node):
    pool = replace(FAILED, wanted=1, reason="the handler raised", preparing=None)
    registry.report(SPEC, "m-1.0@a", pool)
    assert wait_for_dependencies(registry, SPEC, 0) == ""


def test_reports_of_an_earlier_registration_do_not_count(registry, node):
    registry.report(SPEC, "m-1.0@a", FAILED)
    since = registry.now()
    threading.Timer(0.3, registry.report, (SPEC, "m-1.0@a", DONE)).start()
    assert wait_for_dependencies(registry, SPEC, since) == ""


def test_unregistering_ends_the_wait(registry, node):
    registry.report(SPEC, "m-1.0@a", BUSY)
    threading.Timer(0.3, registry.unregister, (SPEC,)).start()
    with pytest.raises(ModelNotFound):
        wait_for_dependencies(registry, SPEC, 0)


def test_a_change_waits_for_the_gateways_that_have_not_read_it(registry):
    registry.redis.zadd(keys.GATEWAYS, {"slow": registry.now(), "lost": registry.now() - 60})
    change = registry.announce("put", SPEC)
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(wait_for_gateways, registry, change)
        time.sleep(0.2)
        assert not waiting.done()
        registry.redis.zadd(keys.GATEWAYS, {"slow": registry.now()})


def test_without_gateways_a_change_is_known_at_once(registry):
    wait_for_gateways(registry, registry.now(), timeout_s=float("inf"))


def test_a_gateway_that_stays_behind_is_not_waited_for_for_ever(registry):
    registry.redis.zadd(keys.GATEWAYS, {"stuck": registry.now()})
    wait_for_gateways(registry, registry.now(), timeout_s=0.1)


def test_a_wait_for_workers_ends_when_another_request_unregisters_the_version(registry):
    asked = registry.scale(SPEC, 1, 1).spec
    threading.Timer(0.3, registry.unregister, (SPEC,)).start()
    with pytest.raises(ModelVersionNotFound):
        wait_for_workers(registry, asked)


def test_a_wait_for_workers_ends_when_another_request_registers_the_version_again(registry):
    asked = registry.reload(registry.scale(SPEC, 1, 1).spec).spec
    threading.Timer(0.3, registry.put, (replace(asked, generation=0),)).start()
    with pytest.raises(Conflict, match="registered again by another request"):
        wait_for_workers(registry, asked, timeout_s=20)


def test_a_wait_for_workers_ends_when_another_request_scales_the_version(registry):
    asked = registry.scale(SPEC, 2, 2).spec
    other = threading.Timer(0.3, registry.scale, (SPEC, 0, 0))
    other.start()
    with pytest.raises(Conflict, match="scaled to 0 workers by another request"):
        wait_for_workers(registry, asked)
    other.join()  # it uses this test's client


def test_a_later_reload_ends_the_wait_for_an_earlier_one(registry):
    asked = registry.reload(registry.scale(SPEC, 1, 1).spec).spec
    latest = registry.reload(asked).spec
    replica = ReplicaReport(0, 1, "cpu", "ready", 0.0, generation=latest.generation)
    report = PoolReport("a", 1, generation=latest.generation, replicas=(replica,))
    registry.report(SPEC, "m-1.0@a", report)
    assert wait_for_workers(registry, asked) == (1, "")
