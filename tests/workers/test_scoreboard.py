import os
import signal
import subprocess
import sys

import pytest

from marq import keys
from marq.queue.entries import EntryRef, Request
from workers import scoreboard
from workers.scoreboard import Scoreboard

WRITER = """
import sys, time
from pathlib import Path
from marq.queue.entries import Request
from workers import scoreboard
board = scoreboard.Scoreboard(Path(sys.argv[1]))
board.enter(scoreboard.READY)
board.begin([Request(b"1-0", "marq:{m}:low:1.0", b"")])
board.end(1)
rows = (b"1700000000000-1", "marq:{m}:low:1.0"), (b"1700000000000-2", "marq:{m}:high:1.0")
board.begin([Request(*row, b"") for row in rows])
print("running", flush=True)
time.sleep(60)
"""
LONGEST_LANE = keys.lane("m" * 100, "1" * 50)  # what registration allows
LONGEST = Request(b"18446744073709551615-18446744073709551615", LONGEST_LANE, b"")
LANE, HIGH = keys.lane("m", "1.0"), keys.lane("m", "1.0", keys.HIGH)
FIRST, SECOND = Request(b"1-0", LANE, b""), Request(b"1-0", HIGH, b"")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "pool.0.board"


@pytest.fixture
def board(path):
    return Scoreboard.create(path, 4)


def test_a_new_board_says_that_its_replica_loads(board):
    assert scoreboard.STATE_NAMES[board.state] == "loading"
    assert (board.running, board.busy_s, board.counts) == ([], 0.0, (0, 0))


def test_both_sides_see_the_same(board, path):
    replica = Scoreboard(path)
    replica.enter(scoreboard.READY)
    replica.begin([FIRST, SECOND])
    assert scoreboard.STATE_NAMES[board.state] == "ready"
    assert board.running == [FIRST.ref, SECOND.ref]
    replica.end(2)
    assert (board.running, board.counts) == ([], (2, 1))


def test_it_says_for_how_long_a_batch_has_been_running(path, board):
    now = [1000.0]
    board = Scoreboard(path, clock=lambda: now[0])
    board.begin([FIRST])
    now[0] += 0.5
    assert board.busy_s == 0.5
    # A sign of life counts as a new start
    board.touch()
    now[0] += 0.25
    assert board.busy_s == 0.25
    board.end(1)
    assert board.busy_s == 0.0


def test_a_short_batch_leaves_nothing_of_a_long_one(board):
    board.begin([LONGEST, LONGEST])
    board.end(2)
    board.begin([FIRST])
    assert board.running == [FIRST.ref]


def test_the_longest_entries_have_room(board):
    board.begin([LONGEST] * 4)
    assert board.running == [LONGEST.ref] * 4


def test_requests_and_batches_are_counted(board):
    for rows in (1, 4, 2):
        board.begin([FIRST] * rows)
        board.end(rows)
    assert board.counts == (7, 3)


def test_a_new_replica_in_the_slot_starts_with_an_empty_board(board, path):
    board.enter(scoreboard.READY)
    board.begin([FIRST])
    board.end(1)
    board.begin([SECOND])
    fresh = Scoreboard.create(path, 4)
    assert (fresh.state, fresh.running, fresh.counts) == (scoreboard.LOADING, [], (0, 0))


def test_the_boards_of_pools_that_are_gone_are_removed(path):
    for pool, slot in (("gone-1.0@a", 0), ("gone-1.0@a", 12), ("here-1.0@a", 0)):
        Scoreboard.create(scoreboard.path_of(path.parent, pool, slot), 4)
    (path.parent / "node-1.lease").touch()
    scoreboard.remove_if(path.parent, "gone-1.0@a".__eq__)
    assert {file.name for file in path.parent.iterdir()} == {"here-1.0@a.0.board", "node-1.lease"}


def test_what_a_killed_replica_was_running_can_still_be_read(board, path):
    # Given a replica that runs its second batch
    replica = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    assert replica.stdout
    assert replica.stdout.readline() == "running\n"
    # When it is killed
    os.kill(replica.pid, signal.SIGKILL)
    replica.wait()
    replica.stdout.close()
    # Then its pool knows which requests may be to blame, and how much it had done
    assert board.running == [
        EntryRef(keys.lane("m", "1.0", keys.LOW).encode(), b"1700000000000-1"),
        EntryRef(HIGH.encode(), b"1700000000000-2"),
    ]
    assert board.counts == (1, 1)
    assert board.state == scoreboard.READY


@pytest.mark.parametrize("content", [None, b"", b"x"])
def test_the_board_of_a_replica_whose_file_is_damaged_is_none(path, content):
    path.parent.mkdir()
    if content is not None:
        path.write_bytes(content)
    assert Scoreboard.read(path) is None


def test_a_board_takes_the_place_of_a_damaged_one(path):
    path.parent.mkdir()
    path.touch()
    Scoreboard.create(path, 4).begin([FIRST])
    assert Scoreboard.read(path).running == [FIRST.ref]
