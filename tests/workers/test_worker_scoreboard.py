import os
import signal
import subprocess
import sys
import time

import pytest

from workers import scoreboard
from workers.scoreboard import Scoreboard

WRITER = """
import sys, time
from pathlib import Path
from workers import scoreboard
board = scoreboard.Scoreboard(Path(sys.argv[1]))
board.enter(scoreboard.READY)
board.begin([b"1-0"])
board.end(1)
board.begin([b"1700000000000-1", b"1700000000000-2"])
print("running", flush=True)
time.sleep(60)
"""
LONGEST_ID = b"18446744073709551615-18446744073709551615"


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
    replica.begin([b"1-0", b"2-0"])
    assert scoreboard.STATE_NAMES[board.state] == "ready"
    assert board.running == ["1-0", "2-0"]
    replica.end(2)
    assert (board.running, board.counts) == ([], (2, 1))


def test_it_tells_for_how_long_a_batch_has_been_running(board):
    board.begin([b"1-0"])
    time.sleep(0.05)
    assert 0.05 <= board.busy_s < 1
    board.progress()
    assert board.busy_s < 0.05
    assert board.running == ["1-0"]
    board.end(1)
    assert board.busy_s == 0.0


def test_a_short_batch_leaves_nothing_of_a_long_one(board):
    board.begin([b"1700000000000-1", b"1700000000000-2"])
    board.end(2)
    board.begin([b"1-0"])
    assert board.running == ["1-0"]


def test_the_longest_entry_ids_have_room(board):
    board.begin([LONGEST_ID] * 4)
    assert board.running == [LONGEST_ID.decode()] * 4


def test_requests_and_batches_are_counted(board):
    for rows in (1, 4, 2):
        board.begin([b"1-0"] * rows)
        board.end(rows)
    assert board.counts == (7, 3)


def test_a_new_replica_in_the_slot_starts_with_an_empty_board(board, path):
    board.enter(scoreboard.READY)
    board.begin([b"1-0"])
    board.end(1)
    board.begin([b"2-0"])
    fresh = Scoreboard.create(path, 4)
    assert (fresh.state, fresh.running, fresh.counts) == (scoreboard.LOADING, [], (0, 0))


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
    assert board.running == ["1700000000000-1", "1700000000000-2"]
    assert board.counts == (1, 1)
    assert board.state == scoreboard.READY
