import pytest

from marq.host import stop_limit
from marq.host.stop_limit import LEAST_S, StopLimit


@pytest.mark.parametrize(
    ("most", "time_outs", "limit"),
    [
        (None, [], LEAST_S), (None, [1], LEAST_S), (None, [30, 600, 120], 600),
        (45, [30, 600], 45), (45, [30], 30), (2, [], 2),
    ],
)  # fmt: skip
def test_the_limit_is_the_longest_response_time_out_unless_less_is_wanted(tmp_path, most, time_outs, limit):
    kept = StopLimit(most, tmp_path)
    kept.note(time_outs)
    assert kept.seconds == stop_limit.read(tmp_path) == limit


def test_the_file_follows_the_registry(tmp_path):
    kept = StopLimit(None, tmp_path)
    kept.note([60])
    kept.note([])
    assert stop_limit.read(tmp_path) == LEAST_S
    assert [path.name for path in tmp_path.iterdir()] == [stop_limit.FILE_NAME]


@pytest.mark.parametrize("text", ["", "soon"])
def test_a_damaged_file_counts_as_the_least_limit(tmp_path, text):
    (tmp_path / stop_limit.FILE_NAME).write_text(text)
    assert stop_limit.read(tmp_path) == LEAST_S
    assert stop_limit.read(tmp_path / "nowhere") == LEAST_S


def test_a_directory_that_cannot_be_written_changes_nothing_but_the_file(tmp_path):
    kept = StopLimit(None, tmp_path / "nowhere")
    kept.note([60])
    assert kept.seconds == 60
