import pytest
from clock import FakeClock
from support import wait_for

from marq import keys
from marq.registry.liveness import SILENCE_S
from marq.registry.models import HEARTBEAT_LIMIT_S
from marq.registry.sizes.hosts import Host
from marq.registry.sizes.placement import share
from workers.node.leases import Demand, Leases


class OneModel(Leases):
    """Leases of a node that knows one model version."""

    def hold_one(self, spec, nodes: int) -> int:
        return self.hold([demand(spec, nodes)])[spec.key]


def demand(spec, nodes: int) -> Demand:
    """All slots of a version, shared by nodes without devices."""
    size = spec.min_workers
    return Demand(spec, size, share(spec, size, {f"n{number}": Host() for number in range(nodes)}, "n0"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def node(client, clock):
    return lambda name: OneModel(client, name, clock)


def owners(client, count: int) -> list[str | None]:
    values = client.mget([keys.slot("m", "1.0", number) for number in range(count)])
    return [value.decode() if value else None for value in values]


@pytest.fixture
def spec(register):
    return lambda count: register(min_workers=count, max_workers=count)


def test_one_node_holds_all_slots(node, spec, client):
    assert node("a").hold_one(spec(3), 1) == 3
    assert owners(client, 3) == ["a", "a", "a"]


@pytest.mark.parametrize(("slots", "held"), [(4, [2, 2]), (3, [2, 1]), (1, [1, 0]), (0, [0, 0])])
def test_two_nodes_share_the_slots_evenly(node, spec, slots, held):
    assert [node(name).hold_one(spec(slots), 2) for name in "ab"] == held
    assert [node(name).hold_one(spec(slots), 2) for name in "ab"] == held


def test_a_slot_has_one_owner(node, spec, client):
    node("a").hold_one(spec(2), 1)
    assert node("b").hold_one(spec(2), 1) == 0
    assert owners(client, 2) == ["a", "a"]


def test_a_node_that_joins_gets_its_share_at_once(node, spec, client):
    # Given a node that holds all slots
    node("a").hold_one(spec(4), 1)
    # When it hears of another one
    assert node("a").hold_one(spec(4), 2) == 2
    # Then it gives back what is more than its share
    assert node("b").hold_one(spec(4), 2) == 2
    assert sorted(owners(client, 4)) == ["a", "a", "b", "b"]


def test_a_lost_nodes_slots_are_taken_when_their_leases_have_run_out(node, spec, client):
    # Given two nodes
    first, second = node("a"), node("b")
    assert (first.hold_one(spec(4), 2), second.hold_one(spec(4), 2)) == (2, 2)
    # When one of them is lost
    assert second.hold_one(spec(4), 1) == 2
    for number, owner in enumerate(owners(client, 4)):
        if owner == "a":
            client.pexpire(keys.slot("m", "1.0", number), 1)
    # Then the other takes its slots as soon as their leases have run out
    wait_for(lambda: second.hold_one(spec(4), 1) == 4, what="all slots")
    assert owners(client, 4) == ["b"] * 4


def test_holding_renews_the_leases(node, spec, client, monkeypatch):
    key = keys.slot("m", "1.0", 0)
    node("a").hold_one(spec(1), 1)
    assert 9_000 < client.pttl(key) <= 10_000
    client.pexpire(key, 5_000)
    node("a").hold_one(spec(1), 1)
    assert client.pttl(key) > 9_000


def test_a_smaller_model_gives_its_slots_back(node, register, client):
    a = node("a")
    assert a.hold_one(register(min_workers=5, max_workers=5), 1) == 5
    assert a.hold_one(register(min_workers=2, max_workers=5), 1) == 2
    assert owners(client, 5) == ["a", "a", None, None, None]


def test_versions_are_held_together(node, register, client):
    specs = [register("one", min_workers=2, max_workers=3), register("two", min_workers=0, max_workers=1)]
    a = node("a")
    assert a.hold([demand(spec, 1) for spec in specs]) == {"m/one": 2, "m/two": 0}
    assert a.hold([demand(spec, 1) for spec in specs]) == {"m/one": 2, "m/two": 0}
    assert client.mget(keys.slot("m", "one", 2), keys.slot("m", "two", 0)) == [None, None]


def test_a_node_gives_back_its_own_slots_only(node, spec, client):
    model = spec(4)
    node("a").hold_one(model, 2)
    node("b").hold_one(model, 2)
    node("a").release(model)
    assert owners(client, 4) == [None, None, "b", "b"]


def test_nodes_that_are_heard_of_are_counted(node, client):
    # Given three nodes, of which one has not been heard of for too long
    assert node("old").heartbeat() == 1
    client.zincrby(keys.NODES, -1.0 - HEARTBEAT_LIMIT_S, "old")
    assert node("a").heartbeat() == 1
    assert node("b").heartbeat() == 2
    assert node("b").heartbeat() == 2
    # When one leaves
    node("a").leave()
    # Then it does not count any more
    assert node("b").heartbeat() == 1
    assert client.zrange(keys.NODES, 0, -1) == [b"b"]


def test_hosts_whose_clocks_differ_hear_of_each_other(node, client, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert node("slow").heartbeat() == 1
    monkeypatch.setattr("time.time", lambda: 1001.0 + HEARTBEAT_LIMIT_S)
    assert node("fast").heartbeat() == 2
    assert client.zscore(keys.NODES, "slow") == pytest.approx(client.time()[0], abs=600)


def test_after_a_silence_each_node_first_takes_what_it_had(node, spec, client, clock):
    # Given two nodes that share the slots, and a Redis that is away until all leases have run out
    first, second = node("a"), node("b")
    assert (first.hold_one(spec(4), 2), second.hold_one(spec(4), 2)) == (2, 2)
    before = owners(client, 4)
    client.delete(keys.NODES, *(keys.slot("m", "1.0", number) for number in range(4)))
    clock.now += SILENCE_S + 0.1
    # When one node comes before the other, it takes nothing of that one's
    assert first.hold_one(spec(4), first.heartbeat()) == 2
    assert second.hold_one(spec(4), second.heartbeat()) == 2
    assert owners(client, 4) == before
    # And if the other does not come it takes all, after the time that a heartbeat may take
    client.delete(keys.NODES, *(keys.slot("m", "1.0", n) for n, owner in enumerate(before) if owner == "b"))
    assert first.hold_one(spec(4), first.heartbeat()) == 2
    held = []
    for _ in range(int(HEARTBEAT_LIMIT_S) + 1):
        clock.now += 1.0
        held.append(first.hold_one(spec(4), first.heartbeat()))
    assert (held[0], held[-1]) == (2, 4)
