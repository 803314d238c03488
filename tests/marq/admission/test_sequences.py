import time

from support import wait_for

from marq import keys
from marq.admission import seats
from marq.admission.sequences import active, dispatch


def entries(sequences, lane):
    """The sequence and the body of each request in a lane."""
    found = sequences.connection.execute("XRANGE", lane, "-", "+")
    fields = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in found]
    return [(each[b"sequence"].decode(), each[b"body"]) for each in fields]


def test_a_sequence_stays_at_its_seat_in_order_and_seats_get_equally_many(sequences):
    sequences.open("p/0/1", "p/1/2", "p/2/3", "p/3/4")
    lanes = {name: sequences.add(name, b"0") for name in map(str, range(40))}
    for body in (b"1", b"2"):
        assert {name: sequences.add(name, body) for name in reversed(lanes)} == lanes
    each = [entries(sequences, lane) for lane in set(lanes.values())]
    assert [len(found) for found in each] == [30] * 4
    for found in each:
        for name, _ in found:
            assert [body for other, body in found if other == name] == [b"0", b"1", b"2"]


def test_a_sequence_has_one_request_that_runs_and_so_many_that_wait(make_sequences):
    sequences = make_sequences(max_sequence_job_queue_size=2)
    sequences.open("p/0/1")
    lane = sequences.add("a")
    assert [sequences.add("a"), sequences.add("a")] == [lane] * 2
    assert sequences.add("a") == (
        'Model "echo": the sequence "a" has 2 requests that wait, and maxSequenceJobQueueSize allows 2.'
    )
    assert sequences.add("b") == lane
    # When a request has been answered, or cancelled, there is room for one
    newest = sequences.connection.execute("XREVRANGE", lane, "+", "-", "COUNT", 2)[1][0]
    sequences.connection.execute("XDEL", lane, newest)
    assert sequences.add("a") == lane
    assert "maxSequenceJobQueueSize allows 2" in sequences.add("a")


def test_so_many_sequences_may_be_open(make_sequences):
    sequences = make_sequences(max_num_sequence=3)
    sequences.open("p/0/1", "p/1/2")
    for name in "abc":
        assert sequences.add(name).startswith("marq:")
    assert sequences.add("d") == (
        'Model "echo": the sequence "d" cannot begin: 3 sequences are open, and maxNumSequence allows 3.'
    )
    assert sequences.add("b", ends=True).startswith("marq:")
    assert sequences.add("d").startswith("marq:")


def test_as_many_may_be_open_as_replicas_run_at_a_time(make_sequences):
    sequences = make_sequences(max_num_sequence=1, batch_size=2, max_workers=2)
    sequences.open("p/0/1", "p/1/2")
    assert [sequences.add(name).startswith("marq:") for name in "abcde"] == [True] * 4 + [False]


def test_an_idle_sequence_ends_but_not_while_a_request_of_it_waits(make_sequences):
    sequences = make_sequences(sequence_max_idle_ms=20, max_num_sequence=1)
    sequences.open("p/0/1")
    lane = sequences.add("a")
    time.sleep(0.1)  # more than the limit
    assert "maxNumSequence allows 1" in sequences.add("b")
    # When it has no request any more
    sequences.connection.execute("XTRIM", lane, "MAXLEN", 0)
    wait_for(lambda: sequences.add("b") == lane)


def test_an_answer_is_activity(make_sequences):
    sequences = make_sequences(sequence_max_idle_ms=60_000)
    sequences.open("p/0/1")
    sequences.add("a")
    [ends] = sequences.connection.execute("ZRANGE", "marq:{echo}:sequences:1.0", "-inf", "+inf", "BYSCORE")
    before = sequences.connection.execute("ZSCORE", "marq:{echo}:sequences:1.0", ends)
    time.sleep(0.01)
    sequences.connection.pipeline([active(sequences.spec, [b"a", b"unknown"])])
    assert float(sequences.connection.execute("ZSCORE", "marq:{echo}:sequences:1.0", ends)) > float(before)
    assert sequences.connection.execute("ZCARD", "marq:{echo}:sequences:1.0") == 1


def test_the_handler_ends_a_sequence(make_sequences):
    sequences = make_sequences(max_num_sequence=1)
    sequences.open("p/0/1")
    sequences.add("a")
    sequences.connection.pipeline([active(sequences.spec, [b"a"], [b"a"])])
    assert sequences.add("b").startswith("marq:")


def test_a_sequence_that_is_too_old_ends_even_if_it_is_active(make_sequences):
    sequences = make_sequences(sequence_timeout_ms=20, max_num_sequence=1)
    sequences.open("p/0/1")
    sequences.add("a")
    time.sleep(0.05)
    assert sequences.add("b").startswith("marq:")


# replicas that come and go


def test_without_a_replica_requests_wait_in_the_lane_and_later_ones_stay_behind_them(sequences):
    assert sequences.add("a", b"1") == sequences.lane.decode()
    sequences.open("p/0/1")
    assert sequences.add("a", b"2") == sequences.lane.decode()
    reader = sequences.reader("p/0/1")
    reader.read(10, block_ms=1000)
    assert [row.body for _ in range(2) for row in reader.take(10, 1)] == [b"1", b"2"]
    assert sequences.add("a", b"3") == seats.lane_of(sequences.spec, "p/0/1")


def test_a_replica_that_leaves_keeps_its_sequences_and_gets_no_new_ones(sequences):
    sequences.open("p/0/1", "p/1/2")
    of = {name: sequences.add(name) for name in "ab"}
    left = seats.lane_of(sequences.spec, "p/0/1")
    assert sequences.seats["p/0/1"].leave() == 1
    assert {name: sequences.add(name) for name in "ab"} == of
    assert left not in {sequences.add(name) for name in "cdefg"}
    [own] = [name for name, lane in of.items() if lane == left]
    sequences.add(own, ends=True)
    assert sequences.seats["p/0/1"].leave() == 0


def test_a_seat_that_was_left_is_not_opened_again(sequences):
    sequences.open("p/0/1", "p/1/2")
    sequences.seats["p/0/1"].leave()
    sequences.seats["p/0/1"].open()  # as after a lost connection
    assert {sequences.add(name) for name in "abcd"} == {seats.lane_of(sequences.spec, "p/1/2")}


def test_the_end_of_a_replica_ends_its_sequences_and_leaves_nothing(sequences, client):
    sequences.open("p/0/1", "p/1/2")
    lost = seats.lane_of(sequences.spec, "p/0/1")
    of = {name: sequences.add(name, name.encode()) for name in "abcdef"}
    while found := seats.end(sequences.connection, sequences.spec, "p/0/1", "p/0/9"):
        assert {fields[1].decode() for _, fields in found} == {name for name in of if of[name] == lost}
        pending = sequences.connection.execute("XPENDING", lost, keys.GROUP)
        assert pending[3] == [[b"p/0/9", b"3"]]  # the caller can answer jobs
        sequences.connection.execute("XDEL", lost, *(entry for entry, _ in found))
    # Then their next requests begin new ones elsewhere, and the others are where they were
    assert {sequences.add(name) for name in "abcdef"} == {seats.lane_of(sequences.spec, "p/1/2")}
    assert not client.exists(lost)
    assert client.hvals(keys.seat_owners("echo", "1.0")) == [b"p/1/2"]


# requests of other producers than gateways


def test_requests_in_the_lanes_are_moved_to_the_seats_of_their_sequences(sequences, client):
    sequences.open("p/0/1", "p/1/2")
    lanes = {name: sequences.add(name, b"1") for name in "ab"}
    for name in "ab":
        client.xadd(sequences.lane, {"sequence": name, "body": "2"})
    sequences.connection.pipeline([dispatch(sequences.spec, "p/0/1")])
    for name, lane in lanes.items():
        assert entries(sequences, lane) == [(name, b"1"), (name, b"2")]
    assert client.xlen(sequences.lane) == 0


def test_a_request_without_a_sequence_is_one_of_its_own(sequences, client):
    sequences.open("p/0/1")
    entry = client.xadd(sequences.lane, {"body": "x"})
    reader = sequences.reader("p/0/1")
    reader.read(10, block_ms=1000)
    [row] = reader.take(10, 1)
    assert (row.sequence, row.sequence_start, row.id) == (b"ts-seq-" + entry, b"1", entry)


def test_a_request_in_the_lanes_that_a_limit_refuses_is_answered_with_it(make_sequences, client):
    sequences = make_sequences(max_sequence_job_queue_size=1)
    sequences.open("p/0/1")
    for number in range(4):
        client.xadd(sequences.lane, {"sequence": "a", "id": str(number), "body": "", "reply": "answers"})
    reader = sequences.reader("p/0/1")
    reader.read(10, block_ms=1000)
    answers = [fields for _, fields in client.xrange("answers")]
    assert [(each[b"id"], each[b"status"]) for each in answers] == [(b"2", b"503"), (b"3", b"503")]
    assert b"maxSequenceJobQueueSize allows 1" in answers[0][b"body"]
    assert client.xlen(sequences.lane) == 0
