"""Continuous batching: a replica whose handler spells the text of each row, one letter in each step."""

import time

import pytest
from gate import HOLD
from support import wait_for

from marq import keys

HANDLER = (
    HOLD
    + """
import os


class Speller:
    def initialize(self, context):
        context.cache = {}

    def handle(self, data, context):
        ids = list(context.request_ids.values())
        for request_id, row in zip(ids, data, strict=True):
            if request_id not in context.cache:
                text = bytes(row["body"]).decode()
                gate, _, text = text.partition(" ") if text.startswith("/") else ("", "", text)
                context.cache[request_id] = [gate, list(text)]
            elif row:
                raise ValueError("the data of a row came twice")
        return self.spell(ids, context)

    def spell(self, ids, context):
        letters = []
        for index, request_id in enumerate(ids):
            gate, rest = context.cache[request_id]
            letters.append(rest.pop(0))
            if gate:
                hold(gate)
                context.cache[request_id][0] = ""
            if letters[-1] == "!":
                context.cache.clear()
                raise ValueError("no such letter")
            if letters[-1] == "#":
                os._exit(3)
            context.set_response_header(index, "x-live", str(len(ids)))
        context.stopping_criteria = [self.criterion(context.cache[each][1]) for each in ids]
        return letters

    def criterion(self, rest):
        return lambda letter: None if letter == "." else not rest
"""
)
ROWS = 4


@pytest.fixture
def replica(start, register):
    return start(register(continuous_batching=True, batch_size=ROWS, max_batch_delay_ms=0), handler=HANDLER)


@pytest.fixture
def parts(gateway):
    """The parts of the answer to the request with this id, as they are by now."""

    def parts(name):
        return [reply for reply in gateway.replies() if reply.id == name.encode()]

    return parts


@pytest.fixture
def text(parts):
    """The text of the whole answer to the request with this id, when it is there."""

    def text(name):
        wait_for(lambda: any(not reply.more for reply in parts(name)), what=f"the answer to {name}")
        return b"".join(reply.body for reply in parts(name)).decode()

    return text


def test_each_row_is_answered_letter_by_letter(replica, gateway, parts, text):
    words = {"a": "one", "b": "three", "c": "x", "d": "continuous", "e": "batching", "f": "again"}
    for name, word in words.items():
        gateway.send(word, id=name)
    assert {name: text(name) for name in words} == words
    for name, word in words.items():
        assert [reply.more for reply in parts(name)] == [*range(1, len(word)), 0]
        assert {reply.status for reply in parts(name)} == {200}
    assert replica.process.report().requests == len(words)


def test_an_answer_that_is_complete_at_once_has_no_parts(replica, gateway, parts, text):
    gateway.send(".", id="a")
    assert text("a") == "."
    assert len(parts("a")) == 1


def test_rows_join_and_leave_between_two_steps(replica, gateway, parts, text, gate):
    # Given a row in its first step, and two that come meanwhile
    gateway.send(f"{gate} ab", id="long")
    gate.wait_until_reached()
    gateway.send("xyz", id="x")
    gateway.send("y", id="y")
    gate.open()
    # Then they join in the second step, without waiting for the first row's end
    assert (text("long"), text("x"), text("y")) == ("ab", "xyz", "y")
    live = {name: [reply.headers for reply in parts(name)] for name in ("long", "x", "y")}
    assert live["long"] == [b'{"x-live": "1"}', b'{"x-live": "3"}']
    assert live["y"] == [b'{"x-live": "3"}']


def test_no_more_rows_are_live_than_fit_into_a_batch(replica, gateway, parts, text):
    for number in range(3 * ROWS):
        gateway.send("abc", id=str(number))
    assert {text(str(number)) for number in range(3 * ROWS)} == {"abc"}
    sizes = {reply.headers for number in range(3 * ROWS) for reply in parts(str(number))}
    assert max(int(headers.partition(b": ")[2].strip(b'"}')) for headers in sizes) <= ROWS


def test_a_cancelled_row_leaves_at_the_next_step(replica, gateway, client, text, gate):
    # Given a row that would never end, in a step with another one
    [endless] = gateway.send(f"{gate} " + "e" * 10_000_000, id="endless")
    gate.wait_until_reached()
    # When it is withdrawn, as a gateway does
    lane = keys.lane("m", "1.0")
    client.xack(lane, keys.GROUP, endless)
    client.xdel(lane, endless)
    gate.open()
    # Then the replica has nothing to do, and runs others alone
    wait_for(lambda: not replica.process.board.running, what="the end of the row")
    gateway.send("z", id="z")
    assert text("z") == "z"
    assert [reply.headers for reply in gateway.replies()][-1] == b'{"x-live": "1"}'


def test_a_row_leaves_when_its_deadline_has_passed(replica, gateway, parts, text, gate):
    # Given a row that would never end, with a deadline, in its first step; a busy machine may be late for it
    for seconds in (1, 4, 16):
        name, deadline = f"endless-{seconds}", time.time() + seconds
        gateway.send(f"{gate} " + "e" * 10_000_000, id=name, deadline=int(deadline * 1000))
        wait_for(lambda name=name: gate.reached() or parts(name), what="the first step, or no start")
        if gate.reached():
            break
    # When the deadline has passed
    wait_for(lambda: time.time() > deadline, what="the deadline")
    gate.open()
    # Then the answer ends after the part of that step, and others run alone
    wait_for(lambda: parts(name) and not parts(name)[-1].more, what="the end of the answer")
    assert [(reply.status, reply.more) for reply in parts(name)] == [(200, 1), (504, 0)]
    gateway.send("z", id="z")
    assert text("z") == "z"
    assert parts("z")[-1].headers == b'{"x-live": "1"}'


def test_an_error_of_the_handler_ends_all_live_rows_and_later_ones_are_answered(
    replica, gateway, parts, text, gate
):
    gateway.send(f"{gate} ab!", id="bad")
    gate.wait_until_reached()
    gateway.send("abcdef", id="good")
    gate.open()
    text("bad"), text("good")
    assert [parts(name)[-1].status for name in ("bad", "good")] == [503, 503]
    gateway.send("ok", id="later")
    assert text("later") == "ok"


def test_a_replica_that_is_asked_to_end_finishes_its_live_rows_and_takes_no_others(
    replica, gateway, client, text, gate
):
    gateway.send(f"{gate} abcdef", id="live")
    gate.wait_until_reached()
    replica.process.drain()
    gateway.send("no", id="waits")
    gate.open()
    assert replica.wait_for_exit() == 0
    assert text("live") == "abcdef"
    assert not [reply for reply in gateway.replies() if reply.id == b"waits"]
    replica.put_back()
    assert client.xlen(keys.lane("m", "1.0")) + client.xlen(keys.lane("m", "1.0", keys.FRONT)) == 1


def test_after_a_lost_connection_live_rows_go_on_and_waiting_ones_are_not_lost(
    replica, gateway, client, text, gate
):
    gateway.send(f"{gate} abcdef", id="live")
    gate.wait_until_reached()
    gateway.send("next", id="next")
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    gate.open()
    assert (text("live"), text("next")) == ("abcdef", "next")


def test_a_row_that_ends_its_replica_runs_alone_the_next_time(start, register, gateway, text, gate):
    spec = register(continuous_batching=True, batch_size=ROWS, max_batch_delay_ms=0, max_attempts=2)
    first = start(spec, handler=HANDLER)
    gateway.send(f"{gate} #", id="crash")
    gate.wait_until_reached()
    gateway.send(".", id="good")
    gate.open()
    first.wait_for_exit()
    first.put_back()
    second = start(spec, handler=HANDLER, wait=False)
    second.wait_for_exit()
    second.put_back()
    start(spec, handler=HANDLER)
    assert text("good") == "."
    assert "Worker died." in text("crash")
