import pytest

from marq import keys
from marq.registry import name_lease
from marq.registry.name_lease import NameLease, Owner

KEY = keys.node_owner("n")
FIRST, SECOND = Owner("first", "host a", 11), Owner("second", "b", 22)


@pytest.fixture
def lease(client):
    return lambda owner: NameLease(client, KEY, owner)


def test_a_name_has_one_owner_whom_the_others_hear_of(lease):
    assert lease(FIRST).hold() is None
    held = lease(SECOND).hold()
    assert held.owner == FIRST
    assert 0 < held.rest_ms <= name_lease.LEASE_MS


def test_a_renewal_shows_that_the_owner_lives(lease, client):
    lease(FIRST).hold()
    client.pexpire(KEY, 5000)
    before = lease(SECOND).hold()
    assert not lease(SECOND).hold().was_renewed_since(before)
    lease(FIRST).hold()
    assert lease(SECOND).hold().was_renewed_since(before)


def test_a_lease_that_is_not_renewed_ends(lease, client):
    lease(FIRST).hold()
    client.delete(KEY)  # as Redis does at its end
    assert lease(SECOND).hold() is None
    assert lease(FIRST).hold().owner == SECOND


def test_a_successor_with_the_token_goes_on_with_the_lease(lease):
    lease(FIRST).hold()
    assert lease(Owner("first", "host a", 33)).hold() is None
    assert lease(SECOND).hold().owner.pid == 33


def test_only_the_owner_can_release_a_name(lease):
    lease(FIRST).hold()
    lease(SECOND).release()
    assert lease(SECOND).hold().owner == FIRST
    lease(FIRST).release()
    assert lease(SECOND).hold() is None


def test_a_lease_ends_with_the_heartbeat_limit(lease, client, monkeypatch):
    monkeypatch.setattr(name_lease, "LEASE_MS", 1234)
    lease(FIRST).hold()
    assert 0 < client.pttl(KEY) <= 1234


def test_a_lease_is_renewed_also_while_redis_is_full(lease, client):
    own = lease(FIRST)
    own.hold()
    client.pexpire(KEY, 5000)
    limit = client.config_get("maxmemory")["maxmemory"]
    client.config_set("maxmemory", 1)
    try:
        assert own.hold() is None
    finally:
        client.config_set("maxmemory", limit)
    assert client.pttl(KEY) > 5000
