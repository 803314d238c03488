"""Burying, looking at and replaying, against a real Valkey."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import wait_for
from thread_replica import make_spec

from marq import keys
from marq.connections import clients
from marq.connections.blocking import Connection
from marq.errors import Conflict, ModelVersionNotFound, ResourceNotFound
from marq.queue import job_records
from marq.queue.dead_letters import DeadLetters
from marq.queue.giving_up import Death, bury
from marq.queue.ids import JobId
from marq.queue.replies.entries import Reply

LANE = keys.lane("echo", "1.0")
DEAD = keys.dead_letters("echo")
KILLED = Death("given up", 3, "cuda:0", "signal 9", "Traceback\nBoom")


@pytest.fixture
def letters(client, spec):
    return DeadLetters(client)


@pytest.fixture
def plain(redis_url):
    """The connection that replicas and pools use."""
    connection = Connection(redis_url)
    yield connection
    connection.close()


@pytest.fixture
def kill(plain, client, spec):
    """Queues entries and buries them: kill({"body": b"x"}, death=...) -> the letters' ids."""

    def kill(*entries, death: Death = KILLED) -> list[str]:
        found = []
        for fields in entries:
            entry = client.xadd(LANE, fields)
            client.xreadgroup(keys.GROUP, "replica", {LANE: ">"})
            *_, letter = plain.pipeline(bury(spec, LANE, entry, death))
            assert isinstance(letter, bytes), letter
            found.append(letter.decode())
        return found

    return kill


def settings(monkeypatch, **limits):
    for name, value in limits.items():
        monkeypatch.setenv(f"MARQ_DEAD_LETTER_{name.upper()}", str(value))


# burying


def test_a_letter_tells_the_end_of_a_request_and_all_that_it_was(client, kill, letters):
    [letter_id] = kill({"body": b"\x00x", "id": "7", "type": "text/plain", "attempts": "2", "own": "1"})
    letter = letters.get("echo", letter_id)
    assert letter.about == {
        "reason": "given up", "version": "1.0", "lane": LANE, "entry": letter.about["entry"], "attempts": "3",
        "device": "cuda:0", "ending": "signal 9", "log": "Traceback\nBoom",
    }  # fmt: skip
    assert letter.fields == {"id": "7", "type": "text/plain", "own": "1"}
    assert (letter.size, letters.body("echo", letter_id)) == (2, b"\x00x")
    assert letter.died == pytest.approx(time.time(), abs=600)
    assert client.xlen(LANE) == client.xpending(LANE, keys.GROUP)["pending"] == 0


def test_an_entry_is_buried_once_however_many_find_it(client, spec, redis_url):
    entry = client.xadd(LANE, {"body": b"x"})

    def try_to_bury(_):
        plain = Connection(redis_url)
        return plain.pipeline(bury(spec, LANE, entry, KILLED))[-1]

    with ThreadPoolExecutor(8) as threads:
        made = [letter for letter in threads.map(try_to_bury, range(8)) if letter]
    assert len(made) == client.xlen(DEAD) == 1


def test_a_field_of_the_entry_cannot_pass_for_what_marq_knows(kill, letters):
    [letter_id] = kill({"reason": "mine", "version": "9", "attempts": "x"})
    letter = letters.get("echo", letter_id)
    assert (letter.about["reason"], letter.version, letter.about["attempts"]) == ("given up", "1.0", "3")
    assert letter.fields == {"reason": "mine", "version": "9"}


def test_of_an_entry_with_too_many_fields_stays_what_means_something(kill, letters):
    [letter_id] = kill({**{f"field {number}": "x" for number in range(5000)}, "body": b"x", "type": "a/b"})
    letter = letters.get("echo", letter_id)
    assert (letter.fields, letter.size) == ({"type": "a/b"}, 1)


def test_letters_go_when_they_are_old(kill, client, letters, monkeypatch):
    # Given letters of which one is eight days old
    week, now_ms = 7 * 86_400_000, int(time.time() * 1000)
    client.xadd(DEAD, {"reason": "old"}, id=f"{now_ms - week - 86_400_000}-0")
    [recent] = kill({"body": b"x"})
    # Then another burial has removed that
    assert letters.ids("echo") == [recent]
    # And all go when none has come for as long
    assert client.pttl(DEAD) == pytest.approx(week, abs=600_000)
    client.delete(DEAD)
    client.xadd(DEAD, {"reason": "two hours old"}, id=f"{now_ms - 7_200_000}-0")
    settings(monkeypatch, ttl_s=3600)
    [newest] = kill({"body": b"y"})
    assert letters.ids("echo") == [newest]


def test_the_oldest_letters_go_when_they_take_too_much_memory(kill, client, letters, monkeypatch):
    settings(monkeypatch, max_bytes=200_000)
    buried = kill(*({"body": b"x" * 10_000} for _ in range(60)))
    left = letters.ids("echo")
    # Then the newest are kept, as many as fit
    assert client.memory_usage(DEAD, samples=0) <= 200_000
    assert left == buried[-len(left) :]
    assert len(left) >= 14
    # And of those the small ones stay for which there is room beside a large one
    [large] = kill({"body": b"x" * 90_000})
    assert letters.ids("echo")[-1] == large
    assert 6 <= len(letters.ids("echo")) < len(left)
    assert letters.summary("echo").bytes <= 200_000


def test_the_newest_letter_stays_though_it_is_larger_than_the_limit(kill, letters, monkeypatch):
    settings(monkeypatch, max_bytes=10_000)
    _, newest = kill({"body": b"x"}, {"body": b"x" * 50_000})
    assert letters.ids("echo") == [newest]


def test_a_full_redis_does_not_keep_a_request_from_being_buried(plain, spec, client, letters):
    entry = client.xadd(LANE, {"body": b"x"})
    client.config_set("maxmemory", 1)
    try:
        *_, letter = plain.pipeline(bury(spec, LANE, entry, KILLED))
    finally:
        client.config_set("maxmemory", 0)
    assert [letter.decode()] == letters.ids("echo")


# looking at them


def test_letters_are_listed_page_by_page_the_newest_first(kill, letters):
    buried = kill(*({"body": b"x"} for _ in range(5)))
    first = letters.page("echo", 2)
    second = letters.page("echo", 10, first[-1].id)
    assert [letter.id for letter in [*first, *second]] == buried[::-1]


def test_each_model_with_letters_is_summed_up_registered_or_not(kill, letters, client):
    assert letters.summaries() == []
    first, *_, last = kill(*({"body": b"x"} for _ in range(3)))
    client.xadd(keys.dead_letters("another"), {"reason": "old"})
    client.xadd(keys.lane("echo", "x}:dead"), {"body": b"a version with a strange name"})
    another, echo = letters.summaries()
    assert (another.model, another.count) == ("another", 1)
    assert (echo.model, echo.count) == ("echo", 3)
    assert [f"{echo.oldest * 1000:.0f}", f"{echo.newest * 1000:.0f}"] == [
        letter.partition("-")[0] for letter in (first, last)
    ]
    assert echo.bytes > 100


@pytest.mark.parametrize("letter_id", ["1-1", "nonsense", "1-1\n", "99999999999999999999-1", "-", ""])
def test_what_is_not_there_is_told(letters, kill, letter_id):
    kill({"body": b"x"})
    with pytest.raises(ResourceNotFound, match="Dead letter not found"):
        letters.get("echo", letter_id)
    assert letters.delete("echo", [letter_id]) == 0
    [error] = letters.replay("echo", [letter_id]).refused.values()
    assert isinstance(error, ResourceNotFound)


# replaying


def test_a_replayed_request_is_a_job_that_knows_its_first_life(kill, letters, client, start_replica):
    # Given a prediction that was given up
    entry = {"id": "7", "type": "text/plain", "path": "p", "own": "1", "body": b"x"}
    past = {"deadline": "1", "reply": "answers", "replies": "stream", "attempts": "2"}
    [letter_id] = kill({**entry, **past})
    # When it is replayed
    [job] = letters.replay("echo", [letter_id]).jobs.values()
    # Then it is queued without what belonged to its first life
    [(_, queued)] = client.xrange(LANE)
    request_id = job.partition(":")[2]
    assert queued == {
        b"id": request_id.encode(), b"job": b"1", b"replay_of": b"7",
        b"type": b"text/plain", b"path": b"p", b"own": b"1", b"body": b"x",
    }  # fmt: skip
    # And the letter is gone, and the job can be asked for
    assert letters.ids("echo") == []
    record = job_records.parse_record(JobId.parse(job), client.hgetall(keys.job("echo", request_id)))
    assert (record.state, record.version, record.replay_of) == ("queued", "1.0", "7")
    # And its record keeps the link when it has run
    start_replica(lambda request: Reply(request.id, 200, b"done"))
    record = _wait_until_finished(client, job)
    assert (record.state, record.body, record.to_dict()["replay_of"]) == ("succeeded", b"done", "7")


def test_the_first_life_is_remembered_over_several_replays(kill, letters, client):
    [letter_id] = kill({"body": b"x"})
    first = letters.get("echo", letter_id).about["entry"]
    for _ in range(3):
        letters.replay("echo", [letter_id])
        [(_, queued)] = client.xrange(LANE)
        client.xtrim(LANE, 0)
        assert queued[b"replay_of"] == first.encode()
        [letter_id] = kill(queued)
    assert letters.get("echo", letter_id).replay_of == first


def test_two_who_replay_the_same_letters_queue_each_once(kill, client, spec, redis_url):
    ids = kill(*({"body": b"%d" % number} for number in range(200)))
    with clients.client(redis_url) as one, clients.client(redis_url) as other:
        both = [DeadLetters(one), DeadLetters(other)]
        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(lambda letters: letters.replay("echo", ids), both))
    queued = [fields[b"body"] for _, fields in client.xrange(LANE)]
    assert sorted(map(int, queued)) == list(range(200))
    assert sum(len(each.jobs) for each in done) == 200
    assert sum(len(each.refused) for each in done) == 200
    assert client.xlen(DEAD) == 0


def test_another_version_can_be_given(kill, letters, client, registry):
    registry.register(make_spec(version="2.0"))
    [letter_id] = kill({"body": b"x"})
    with pytest.raises(ModelVersionNotFound):
        letters.replay("echo", [letter_id], "3.0")
    [job] = letters.replay("echo", [letter_id], "2.0").jobs.values()
    assert client.xlen(LANE) == 0
    assert client.xlen(keys.lane("echo", "2.0")) == 1
    assert client.hget(keys.job("echo", job.partition(":")[2]), "version") == b"2.0"


def test_letters_of_a_version_that_is_gone_stay(kill, letters, registry, spec):
    [letter_id] = kill({"body": b"x"})
    registry.unregister(spec)
    registry.register(make_spec(version="2.0"))
    refused = letters.replay("echo", [letter_id]).refused
    assert isinstance(refused[letter_id], ModelVersionNotFound)
    assert letters.ids("echo") == [letter_id]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"data": "x"}, "`body` is missing"), ({"body": "x", "path": b"\xff"}, "`path` must be UTF-8")],
)
def test_what_is_no_request_cannot_be_replayed_and_says_why(kill, letters, fields, reason):
    [letter_id] = kill(fields, death=Death("malformed"))
    [error] = letters.replay("echo", [letter_id]).refused.values()
    assert isinstance(error, Conflict)
    assert reason in error.message
    assert letters.ids("echo") == [letter_id]


def test_what_was_malformed_in_its_first_life_only_can_be_replayed(kill, letters, client):
    kill({"body": "x", "deadline": "tomorrow"}, {"body": "y", "id": b"\xff"}, death=Death("malformed"))
    assert len(letters.replay("echo", letters.ids("echo")).jobs) == 2
    assert [fields[b"body"] for _, fields in client.xrange(LANE)] == [b"x", b"y"]


def test_a_letter_of_an_older_marq_can_be_replayed(client, letters):
    about = {"reason": "old", "version": "1.0", "lane": LANE, "entry": "1-1"}
    letter_id = client.xadd(DEAD, {**about, "id": "7", "body": "x"}).decode()
    assert letters.replay("echo", [letter_id]).jobs
    [(_, queued)] = client.xrange(LANE)
    assert (queued[b"replay_of"], queued[b"body"], b"reason" in queued) == (b"7", b"x", False)


# deleting


def test_one_several_or_all_are_deleted(kill, letters, client):
    first, second, third, *_ = kill(*({"body": b"x"} for _ in range(6)))
    assert letters.delete("echo", [first]) == 1
    assert letters.delete("echo", [first, second, third]) == 2
    assert letters.delete_all("echo") == 3
    assert letters.summaries() == []
    # what there has ever been is still counted
    assert client.xinfo_stream(DEAD)["entries-added"] == 6


def _wait_until_finished(client, job: str):
    job_id = JobId.parse(job)

    def finished():
        record = job_records.parse_record(job_id, client.hgetall(keys.job(job_id.model, job_id.request_id)))
        return record if record.is_finished else None

    return wait_for(finished, what=job)
