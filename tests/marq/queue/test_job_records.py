import time

import pytest

from marq.errors import JobNotFound
from marq.queue.ids import JobId
from marq.queue.job_records import parse_record, pending_query

JOB = JobId("m", "1")
QUEUED = {
    b"state": b"queued", b"version": b"1.0", b"queued": b"1700000000500",
    b"lane": b"marq:{m}:normal:1.0", b"entry": b"1-0",
}  # fmt: skip
FINISHED = QUEUED | {
    b"state": b"succeeded", b"started": b"1700000001000", b"finished": b"1700000002250", b"attempts": b"2",
    b"device": b"cuda:1", b"status": b"200", b"headers": b'{"content-type": "text/plain"}', b"body": b"hi",
}  # fmt: skip


def test_a_job_id_names_its_model_and_its_request():
    assert JobId.parse(str(JobId("m", "123-45"))) == JobId("m", "123-45")
    assert JobId.parse("m:a:b:c") == JobId("m", "a:b:c")


@pytest.mark.parametrize("wrong", ["", "m", ":", "m:", ":1", "a{b}:1", "}:1"])
def test_what_is_no_job_id_is_a_job_that_is_not_found(wrong):
    with pytest.raises(JobNotFound, match="Job not found: "):
        JobId.parse(wrong)


def test_a_job_whose_record_is_gone_is_not_found():
    with pytest.raises(JobNotFound, match="Job not found: m:1"):
        parse_record(JOB, {}, None)


def test_a_job_that_nobody_has_taken_is_queued():
    record = parse_record(JOB, QUEUED, None)
    assert (record.state, record.model, record.version, record.queued) == ("queued", "m", "1.0", 1700000000.5)
    assert record.started is record.finished is record.status is record.body is None
    assert not record.is_finished


def test_a_job_whose_entry_is_pending_runs():
    began = time.time()
    record = parse_record(JOB, QUEUED, 2000)
    assert record.state == "running"
    assert began - 2.001 <= record.started <= time.time() - 1.999
    assert not record.is_finished


def test_a_finished_job_has_everything():
    record = parse_record(JOB, FINISHED, None)
    assert record.is_finished
    assert (record.state, record.attempts, record.device, record.status) == ("succeeded", 2, "cuda:1", 200)
    assert (record.started, record.finished) == (1700000001.0, 1700000002.25)
    assert (record.headers, record.body) == ({"content-type": "text/plain"}, b"hi")


@pytest.mark.parametrize("state", ["succeeded", "failed", "expired", "cancelled"])
def test_four_states_are_final(state):
    record = parse_record(JOB, FINISHED | {b"state": state.encode()}, None)
    assert record.is_finished
    assert record.state == state


def test_a_finished_job_is_not_asked_for_again():
    assert pending_query(FINISHED) is None
    assert pending_query({}) is None
    assert pending_query(QUEUED) == ("marq:{m}:normal:1.0", "replicas", "1-0", "1-0", 1)


def test_a_job_that_expired_in_the_queue_never_started():
    record = parse_record(JOB, FINISHED | {b"state": b"expired", b"started": b"", b"headers": b""}, None)
    assert record.started is None
    assert record.headers == {}


def test_what_clients_are_told_leaves_out_the_result_and_what_is_not_known_yet():
    assert parse_record(JOB, QUEUED, None).to_dict() == {
        "job_id": "m:1", "state": "queued", "model": "m", "version": "1.0", "attempts": 0,
        "queued": 1700000000.5,
    }  # fmt: skip
    assert set(parse_record(JOB, FINISHED, None).to_dict()) == {
        "job_id", "state", "model", "version", "attempts", "device", "queued", "started", "finished",
        "status", "queued_ms", "handler_ms", "batched_with",
    }  # fmt: skip
