"""Files of jobs go when nothing needs them any more, and not before."""

import os
import time

import pytest

from marq import keys
from marq.connections import clients
from marq.jobs.file_sweep import LASTING_S, ORPHAN_S, FileSweep
from marq.payloads.job_files import ANSWER, BODY, JobFiles

MODEL, ID = "a model/..", "0b0c5dc2-6b59-4a6c-9a40-0123456789ab"


@pytest.fixture
def files(tmp_path):
    return JobFiles(tmp_path / "job-payloads", 10)


@pytest.fixture
def client(redis_url):
    with clients.client(redis_url) as client:
        yield client


def write(files, kind=BODY, age_s=0.0):
    file, ref = files.create(MODEL, ID, kind)
    os.write(file, b"content")
    os.close(file)
    moment = time.time() - age_s
    os.utime(files.path(ref), (moment, moment))
    return ref


def left(files):
    return [stored.ref for stored in files.all()]


def sweep(files, client):
    FileSweep(files, client).go_on()
    return left(files)


def test_a_file_of_no_job_goes_when_it_is_old(files, client):
    young = write(files)
    write(files, age_s=ORPHAN_S + 10)
    assert sweep(files, client) == [young]


@pytest.mark.parametrize(
    ("record", "stays"),
    [
        ({"state": "queued"}, True),
        ({"state": "scheduled"}, True),
        ({"state": "failed", "request": "entry"}, True),  # it can be retried
        ({"state": "failed"}, False),
        ({"state": "succeeded"}, False),
        ({"state": "cancelled"}, False),
    ],
)
def test_a_body_stays_while_its_job_may_run(files, client, record, stays):
    ref = write(files, age_s=ORPHAN_S + 10)
    client.hset(keys.job(MODEL, ID), mapping=record)
    assert (sweep(files, client) == [ref]) is stays


@pytest.mark.parametrize(("age_s", "stays"), [(1.0, True), (LASTING_S + 1, False)])
def test_a_body_outlives_the_end_of_its_job_that_redis_may_still_lose(files, client, age_s, stays):
    ref = write(files)
    finished = int((time.time() - age_s) * 1000)
    client.hset(keys.job(MODEL, ID), mapping={"state": "succeeded", "finished": finished})
    assert (sweep(files, client) == [ref]) is stays


def test_an_answer_stays_while_the_record_names_it(files, client):
    older, newer = write(files, ANSWER), write(files, ANSWER, ORPHAN_S + 10)
    client.hset(keys.job(MODEL, ID), mapping={"state": "queued"})
    assert len(sweep(files, client)) == 2  # one of them is about to be published
    client.hset(keys.job(MODEL, ID), mapping={"state": "succeeded", "body_ref": newer})
    assert sweep(files, client) == [newer] != [older]
    client.delete(keys.job(MODEL, ID))
    assert sweep(files, client) == []


def test_a_body_stays_while_a_dead_letter_or_its_replay_needs_it(files, client):
    ref = write(files, age_s=ORPHAN_S + 10)
    letter = client.xadd(keys.dead_letters(MODEL), {"body_ref": ref})
    client.zadd(keys.holders(MODEL), {ref + b" letter " + letter: 0, ref + b"x letter 1-1": 0})
    assert sweep(files, client) == [ref]
    client.zadd(keys.holders(MODEL), {ref + b" job other": 0})
    client.hset(keys.job(MODEL, "other"), mapping={"state": "queued"})
    client.xdel(keys.dead_letters(MODEL), letter)
    assert sweep(files, client) == [ref]
    assert client.zrange(keys.holders(MODEL), 0, -1) == [ref + b" job other", ref + b"x letter 1-1"]
    client.hset(keys.job(MODEL, "other"), mapping={"state": "succeeded"})
    assert sweep(files, client) == []


def test_many_files_are_looked_at_in_turns(files, client, monkeypatch):
    monkeypatch.setattr("marq.jobs.file_sweep.AT_A_TIME", 3)
    for _ in range(7):
        write(files, age_s=ORPHAN_S + 10)
    swept = FileSweep(files, client)
    assert sum(swept.go_on() for _ in range(4)) == 7
    assert left(files) == []
