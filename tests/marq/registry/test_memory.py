from dataclasses import replace

import pytest
from thread_replica import make_spec

from marq import keys
from marq.registry.memory import Memory

FIRST, SECOND = make_spec("a", "1.0", min_workers=3, max_workers=3), make_spec("a", "2.0")


@pytest.fixture
def memory(registry):
    return Memory(registry)


@pytest.fixture
def registered(registry):
    registry.register(FIRST)
    registry.register(SECOND)
    registry.set_default("a", "2.0")


def test_a_registry_that_redis_has_lost_is_written_again(memory, registry, registered, client):
    # Given a process that has read the registry
    before = memory.models()
    # When Redis comes back empty
    client.flushall()
    # Then its next look registers everything again, with sizes and default versions, ready to be queued for
    found = memory.models()
    assert (found.specs, found.defaults) == (before.specs, before.defaults)
    assert registry.models().get("a") == SECOND
    assert registry.models().get("a", "1.0").min_workers == 3
    assert all(client.exists(lane) for lane in keys.lanes("a", "1.0"))
    assert client.xlen(keys.MANAGEMENT) == 1  # all others hear of it


def test_a_snapshot_writes_it_again_too(memory, registry, registered, client):
    memory.snapshot()
    client.flushall()
    assert sorted(spec.key for spec in memory.snapshot().models) == ["a/1.0", "a/2.0"]


def test_what_was_unregistered_stays_so(memory, registry, registered):
    memory.models()
    registry.unregister(FIRST)
    registry.unregister(SECOND)
    assert list(memory.models()) == []
    assert list(memory.models()) == []


def test_what_was_registered_in_the_meantime_stays(memory, registry, registered, client):
    memory.models()
    client.flushall()
    newer = replace(FIRST, min_workers=1)
    registry.register(newer)
    models = memory.models()
    assert models.get("a", "1.0") == newer
    assert models.defaults == {"a": "1.0"}
    assert models.get("a", "2.0") == SECOND


def test_processes_with_different_memories_restore_all_of_them(memory, registry, client):
    # Given one that knows one version, and another that knows one more
    registry.register(FIRST)
    memory.models()
    registry.register(SECOND)
    other = Memory(registry)
    other.models()
    # When Redis comes back empty, and the first one is first
    client.flushall()
    memory.models()
    # Then the other adds what it knows
    assert sorted(spec.version for spec in other.models()) == ["1.0", "2.0"]
    assert sorted(spec.version for spec in memory.models()) == ["1.0", "2.0"]


def test_a_process_without_a_memory_restores_nothing(memory, client):
    assert list(memory.models()) == []
    client.flushall()
    assert list(memory.models()) == []


def test_a_look_at_a_whole_registry_is_one_round_trip(memory, registered, round_trips):
    memory.models()
    round_trips.clear()
    memory.models()
    assert len(round_trips) == 1
