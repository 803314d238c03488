"""When a pool replaces its replicas, and how."""

from support import wait_for


def test_a_pool_replaces_its_replicas_each_when_its_successor_is_ready(pool, ready, registry, register):
    # Given two replicas
    running, spec = pool(2), register()
    before = ready(2)
    # When they are to be replaced
    running.replace(7)
    counts, others = [], ()
    while set(others) & set(before) or len(others) != 2:
        replicas = registry.replicas(spec)
        others = tuple(r.pid for r in replicas if r.is_ready)
        counts.append((len(others), len(replicas)))
    # Then there were never fewer than two ready, and never more than one above that
    assert min(ready for ready, _ in counts) >= 2
    assert max(there for _, there in counts) <= 4  # one of them on its way out
    wait_for(lambda: {replica.generation for replica in registry.replicas(spec)} == {7})
    [report] = registry.reports(spec).values()
    assert report.generation == 7


def test_a_replica_is_replaced_after_so_many_requests(pool, ready, gateway):
    pool(max_requests_per_replica=20)
    [first] = ready(1)
    gateway.send(*[b"x"] * 50)
    assert {reply.body for reply in gateway.wait(50)} == {b"served"}
    ready(1, other_than=(first,))


def test_a_replica_is_replaced_when_it_has_grown_too_large(pool, ready, gateway):
    # Given a handler that keeps what it gets
    grows = (
        "kept = []\ndef handle(data, context):\n    kept.append(bytearray(300_000_000))\n    return [b'x']\n"
    )
    pool(max_replica_memory_mb=400, handler=grows)
    [first] = ready(1)
    gateway.send(b"x")
    gateway.wait(1)
    ready(1, other_than=(first,))


def test_a_memory_limit_below_what_a_fresh_replica_takes_is_told_and_does_not_replace_it_for_ever(
    pool, ready, gateway, registry, register, caplog
):
    pool(max_replica_memory_mb=5)
    [first] = ready(1)
    spec = register()
    wait_for(lambda: any(r.reason for r in registry.reports(spec).values()), what="the reason")
    # It stays, and the reason is there
    assert ready(1) == [first]
    [report] = registry.reports(spec).values()
    assert (report.failures, report.failing_since) == (0, None)
    assert "MB, maxReplicaMemoryMB is 5: each is replaced after its first batch" in report.reason
    assert caplog.text.count("a fresh replica takes") == 1
    # Until it has done something
    gateway.send(b"x")
    assert gateway.wait(1)[0].body == b"served"
    ready(1, other_than=(first,))
