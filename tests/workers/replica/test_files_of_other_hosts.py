"""Rows whose body is a file of another host: a replica there runs them."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from marq import keys
from marq.connections.blocking import Connection
from marq.payloads.place import Place
from marq.registry.spec import ModelSpec
from workers.replica.lane_reader import LaneReader

STREAM = b"marq:replies:gateway"
LANE = keys.lane("m", "1.0")
Read = Callable[[Place | None], list[bytes]]


class OtherHost(Place):
    """The same directory as another host sees it: a tag of its own."""

    _tag = "0" * 8


@pytest.fixture
def here(tmp_path: Path) -> Place:
    return Place(tmp_path / "payloads", 10, 1000)


@pytest.fixture
def there(here: Place) -> Place:
    return OtherHost(here.directory, 10, 1000)


@pytest.fixture
def read(register: Callable[..., ModelSpec], redis_url: str) -> Read:
    """The ids of the rows that a replica with this place takes and keeps."""
    spec = register()

    def read(place: Place | None) -> list[bytes]:
        connection = Connection(redis_url)
        reader = LaneReader(connection, spec, "consumer", time, lambda _: None, place)
        reader.read(10)
        rows = reader.forget()
        connection.close()
        return [row.id for row in rows]

    return read


def entry(place: Place, request_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": request_id, "body_ref": f"{place.folder_of(STREAM)}/{request_id}", **fields}


def test_a_row_is_left_to_a_replica_of_its_host(client: Any, read: Read, here: Place, there: Place) -> None:
    client.xadd(LANE, entry(here, "1", type="text/plain"))
    client.xadd(LANE, entry(there, "2"))
    client.xadd(LANE, {"id": "3", "body": "inline"})
    assert read(there) == [b"2", b"3"]
    assert read(there) == []
    assert read(None) == []
    [(_, moved)] = client.xrange(keys.lane("m", "1.0", keys.FRONT))
    assert (moved[b"id"], moved[b"type"]) == (b"1", b"text/plain")
    assert read(here) == [b"1"]


def test_a_row_that_no_replica_of_its_host_takes_is_answered(
    client: Any, read: Read, here: Place, there: Place
) -> None:
    passed = int(client.time()[0]) * 1000 - 11_000
    client.xadd(LANE, entry(here, "1", passed=passed))
    assert read(there) == [b"1"]  # the handler's call then fails it with 503
    assert client.xpending(LANE, keys.GROUP)["pending"] == 1


def test_a_row_is_passed_on_from_its_first_pass(client: Any, read: Read, here: Place, there: Place) -> None:
    client.xadd(LANE, entry(here, "1"))
    assert read(there) == []
    front = keys.lane("m", "1.0", keys.FRONT)
    [(_, first)] = client.xrange(front)
    assert read(there) == []
    [(_, second)] = client.xrange(front)
    assert first[b"passed"] == second[b"passed"]
    assert client.xlen(LANE) == 0
