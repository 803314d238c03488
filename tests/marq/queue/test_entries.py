from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marq.errors import MalformedEntry
from marq.queue.entries import FIELDS, EntryFields, EntryHead, Request, decode

LANE, ENTRY = "marq:{m}:normal:1", b"1700000000123-4"
TEXT = st.text(max_size=8).map(str.encode)
NUMBER = st.integers(0, 2**63).map(lambda number: b"%d" % number)
BODY = st.binary(max_size=20)
OPTIONAL = {
    "id": TEXT.filter(bool), "type": st.binary(max_size=8), "headers": TEXT,
    "path": TEXT, "params": st.binary(max_size=8),
    "reply": st.binary(max_size=8), "replies": st.binary(max_size=8), "job": st.just(b"1"),
    "deadline": NUMBER, "attempts": NUMBER, "trace": st.binary(max_size=8),
    "sequence": TEXT, "sequence_start": st.just(b"1"), "sequence_end": st.just(b"1"),
    "run": st.just(b"marq:{w}:run:1"), "node": TEXT, "store": st.binary(max_size=8),
    "input_url": st.binary(max_size=8), "output_url": st.binary(max_size=8),
}  # fmt: skip


def flat(fields: dict[bytes, bytes]) -> list[bytes]:
    return [part for pair in fields.items() for part in pair]


def test_a_body_is_all_that_a_producer_must_give():
    request = decode(LANE, ENTRY, [b"body", b"x"])
    assert request == Request(ENTRY, LANE, b"x", id=ENTRY)
    assert (request.type, request.path, request.job, request.attempts) == (b"", None, b"", b"0")


def test_an_empty_id_is_no_id():
    assert decode(LANE, ENTRY, [b"id", b"", b"body", b""]).id == ENTRY


def test_the_age_of_a_request_is_told_by_its_entry():
    assert decode(LANE, ENTRY, [b"body", b""]).queued_ms == 1700000000123


def test_unknown_fields_are_ignored():
    fields = [b"colour", b"red", b"body", b"x", b"entry", b"0-1", b"lane", b"elsewhere", b"\xff", b""]
    assert decode(LANE, ENTRY, fields) == decode(LANE, ENTRY, [b"body", b"x"])


def test_every_field_of_the_contract_is_known():
    assert set(FIELDS.values()) == {"body", "body_ref", *OPTIONAL}


@given(st.fixed_dictionaries({"body": BODY}, optional=OPTIONAL))
def test_what_a_producer_writes_is_what_a_replica_reads(written):
    request = decode(LANE, ENTRY, flat({name.encode(): value for name, value in written.items()}))
    assert {name: getattr(request, name) for name in written} == written
    assert (request.entry, request.lane) == (ENTRY, LANE)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([b"data", b"x"], "`body` is missing"),
        ([], "`body` is missing"),
        ([b"body_ref", b"../../etc/passwd"], "`body_ref` is not the reference of a file"),
        ([b"body", b"x", b"deadline", b"tomorrow"], "`deadline` must be a whole number, not b'tomorrow'"),
        ([b"body", b"x", b"deadline", b"-1"], "`deadline` must be a whole number"),
        ([b"body", b"x", b"attempts", b"1.5"], "`attempts` must be a whole number"),
        ([b"body", b"x", b"attempts", b""], "`attempts` must be a whole number"),
        ([b"body", b"x", b"deadline", b"9" * 5000], "`deadline` must be a whole number"),
        ([b"body", b"x", b"attempts", b"9" * 5000], "`attempts` must be a whole number"),
        ([b"body", b"x", b"reply", b"marq:registry"], "`reply` must not name a key of marq's own"),
        ([b"body", b"x", b"replies", b"marq:{m}:normal:1.0"], "`replies` must not name a key of marq's own"),
        ([b"body", b"x", b"id", b"\xff\xfe"], "`id` must be UTF-8"),
        ([b"body", b"x", b"path", b"a/\xff"], "`path` must be UTF-8"),
    ],
)
def test_what_is_no_request_says_why_and_carries_its_fields(fields, reason):
    with pytest.raises(MalformedEntry, match=reason) as caught:
        decode(LANE, ENTRY, fields)
    assert caught.value.fields == fields
    assert str(caught.value) == caught.value.reason


def test_a_long_value_is_cut_in_the_reason():
    with pytest.raises(MalformedEntry) as caught:
        decode(LANE, ENTRY, [b"body", b"", b"deadline", b"x" * 10_000])
    assert len(caught.value.reason) < 120


def test_a_replica_reads_what_a_gateway_writes():
    head = EntryHead(
        b"text/plain", b'{"a":"b"}', b"", b"x=1", b"1700000000000", attempts=b"2", reply=b"answers"
    )
    request = decode(LANE, ENTRY, list(EntryFields(b"x", head).flat()))
    assert request == Request(
        ENTRY, LANE, b"x", ENTRY, b"text/plain", b'{"a":"b"}', b"", b"x=1", b"answers",
        deadline=b"1700000000000", attempts=b"2",
    )  # fmt: skip
    assert decode(LANE, ENTRY, list(EntryFields(b"x", head.of_job).flat())) == replace(request, job=b"1")


def test_empty_fields_are_left_out():
    assert EntryFields(b"").flat() == (b"body", b"")
