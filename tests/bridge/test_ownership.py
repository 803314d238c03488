"""One bridge at a time takes the tasks of a queue."""

import os
import subprocess
import threading
from collections.abc import Iterator

import pytest
from support import wait_for

from bridge.ownership import Ownership, OwnershipLost
from marq import keys
from marq.connections import clients
from marq.connections.commands import RedisClient
from marq.registry.name_lease import NameLease, Owner


@pytest.fixture
def client(redis_url: str) -> Iterator[RedisClient]:
    with clients.client(redis_url) as connection:
        yield connection


def never() -> bool:
    return False


def test_a_second_bridge_stands_by_until_the_first_ends(client: RedisClient, redis_url: str) -> None:
    first = Ownership(client, "marq")
    assert first.wait(never)
    assert Ownership(client, "another").wait(never)  # of another queue
    taken = threading.Event()
    with clients.client(redis_url) as other:

        def stand_by() -> None:
            if Ownership(other, "marq").wait(never):
                taken.set()

        waiting = threading.Thread(target=stand_by)
        waiting.start()
        assert not taken.wait(1.5)
        first.release()
        wait_for(taken.is_set, what="the second bridge")
        waiting.join()


def test_a_bridge_that_stands_by_can_be_stopped(client: RedisClient) -> None:
    assert Ownership(client, "marq").wait(never)
    assert not Ownership(client, "marq").wait(lambda: True)


def test_the_successor_of_a_killed_bridge_does_not_wait(client: RedisClient) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    owner = Owner("t" * 32, os.uname().nodename, ended.pid)
    assert NameLease(client, keys.bridge("marq", "owner"), owner).hold() is None
    looks = iter([False, True])  # it would stop after its second look
    assert Ownership(client, "marq").wait(lambda: next(looks))


def test_a_bridge_that_was_paused_for_long_ends(client: RedisClient, monkeypatch: pytest.MonkeyPatch) -> None:
    paused = Ownership(client, "marq")
    assert paused.wait(never)
    client.delete(keys.bridge("marq", "owner"))  # its lease has run out
    assert Ownership(client, "marq").wait(never)
    monkeypatch.setattr("bridge.ownership.HEARTBEAT_S", 0.0)
    with pytest.raises(OwnershipLost, match="has taken this queue over"):
        paused.renew()
