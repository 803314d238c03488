"""How the requests of a version end that is unregistered."""

import json
from dataclasses import replace

import pytest

from archive.store.model_store import ModelStore
from marq import keys
from marq.connections import clients
from marq.control import removal
from marq.control.removal import clear, remove_download
from marq.queue.giving_up import take
from marq.queue.replies.entries import decode_replies

LANE = keys.lane("echo", "1.0")
TTL_S = 60


def record(client, job: str) -> dict[str, str]:
    stored = client.hgetall(keys.job("echo", job))
    stored.pop(b"request", None)  # the entry, which is no text
    return {name.decode(): value.decode() for name, value in stored.items()}


def add(client, **fields) -> bytes:
    entry: bytes = client.xadd(LANE, {"body": "x", **fields})
    return entry


def test_a_job_that_has_succeeded_keeps_its_result(registry, client, spec):
    # Given a job that has succeeded, whose id a producer has queued a second time
    done = {"state": "succeeded", "status": 200, "body": "the answer", "version": "1.0"}
    client.hset(keys.job("echo", "1"), mapping=done)
    add(client, id="1", job="1")
    # When the version is unregistered
    registry.unregister(spec)
    clear(registry, spec, TTL_S)
    # Then the result is still the first one
    assert record(client, "1") == {name: str(value) for name, value in done.items()}
    assert not client.exists(LANE)


@pytest.mark.parametrize("held", [False, True], ids=["queued", "held by a lost replica"])
def test_a_job_that_has_not_run_fails_with_503(registry, client, spec, held):
    # Given a queued job, and a subscriber to the ends of jobs
    add(client, id="1", job="1", attempts=1)
    if held:
        client.xreadgroup(keys.GROUP, "lost", {LANE: ">"})
    listener = client.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.finished("echo"))
    listener.get_message(timeout=60)
    # When the version is unregistered
    registry.unregister(spec)
    clear(registry, spec, TTL_S)
    # Then the job has failed, once, and says so
    stored = record(client, "1")
    assert (stored["state"], stored["status"], stored["attempts"]) == ("failed", "503", "1")
    assert json.loads(stored["body"])["message"].startswith("Model echo version 1.0 was unregistered")
    assert 0 < client.ttl(keys.job("echo", "1")) <= TTL_S
    assert listener.get_message(timeout=60)["data"] == b"1"


def test_an_entry_that_a_producer_adds_at_the_last_moment_is_answered(registry, client, spec, monkeypatch):
    # Given a producer that queues a request when all lanes have just been found empty
    last, late = keys.lanes("echo", "1.0")[-1], ["late"]

    def look(client, lane, *args, **options):
        taken = take(client, lane, *args, **options)
        if lane == last and not taken and late:
            add(client, id=late.pop(), reply="answers")
        return taken

    monkeypatch.setattr(removal, "take", look)
    # When the version is unregistered
    registry.unregister(spec)
    clear(registry, spec, TTL_S)
    # Then that request is answered
    [(_, fields)] = client.xrange("answers")
    assert fields[b"status"] == b"503"
    assert not client.exists(LANE)


def test_an_entry_that_a_producer_adds_after_the_lanes_are_gone_waits_where_status_shows_it(
    registry, client, spec, monkeypatch
):
    # Given a producer that queues a request as soon as the lanes are deleted
    pipeline = clients.pipeline

    def late(*arguments):
        done = pipeline(*arguments)
        if not client.exists(*keys.lanes("echo", "1.0")):
            add(client, id="late", reply="answers")
        return done

    monkeypatch.setattr(removal.clients, "pipeline", late)
    # When the version is unregistered
    registry.unregister(spec)
    clear(registry, spec, TTL_S)
    # Then that request has not vanished, and nothing else is left of the version
    [(_, fields)] = client.xrange(LANE)
    assert fields[b"id"] == b"late"
    assert client.keys("marq:*echo*") == [LANE.encode()]


def test_a_prediction_that_has_not_run_is_answered_with_503(registry, client, spec):
    add(client, id="1", reply="answers")
    registry.unregister(spec)
    clear(registry, spec, TTL_S)
    [(_, fields)] = client.xrange("answers")
    [reply] = decode_replies([part for pair in fields.items() for part in pair])
    assert (reply.id, reply.status) == (b"1", 503)


def test_more_than_a_chunk_of_requests_and_malformed_ones_end_too(registry, client, spec):
    for number in range(250):
        add(client, id=str(number), job="1")
    client.xadd(LANE, {"no": "body"})
    registry.unregister(spec)
    clear(registry, spec, TTL_S)
    assert {record(client, str(number))["state"] for number in range(250)} == {"failed"}
    assert client.xlen(keys.dead_letters("echo")) == 1
    assert not client.exists(LANE)


def test_a_lane_whose_group_is_gone_is_cleared_as_well(registry, client, spec):
    client.delete(LANE)
    add(client, id="1", job="1")
    client.script_flush()
    registry.unregister(spec)
    clear(registry, spec, TTL_S)
    assert record(client, "1")["state"] == "failed"


def test_the_queue_of_a_version_that_is_registered_again_is_left_to_it(registry, client, spec):
    entry = add(client, id="1", job="1")
    registry.unregister(spec)
    registry.register(spec)
    clear(registry, spec, TTL_S)
    assert [found for found, _ in client.xrange(LANE)] == [entry]
    assert record(client, "1") == {}


def test_a_download_stays_while_another_version_uses_it_and_a_failure_is_logged(registry, spec, caplog):
    class Broken(ModelStore):
        def remove_download(self, url: str) -> None:
            raise PermissionError(url)

    registry.unregister(spec)
    other = replace(spec, version="2.0")
    registry.register(other)
    remove_download(Broken(None, []), registry, spec)
    assert not caplog.messages
    registry.unregister(other)
    remove_download(Broken(None, []), registry, spec)
    assert f"{spec.archive} cannot be removed" in caplog.text
