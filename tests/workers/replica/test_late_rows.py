import pytest

from marq.queue.entries import Request
from workers.replica.late_rows import split_late

NOW_MS = 1_000_000


def row(deadline: bytes) -> Request:
    return Request(b"1-0", "lane", b"x", deadline=deadline)


@pytest.mark.parametrize(
    ("deadline", "is_late"), [(b"", False), (b"999999", True), (b"1000000", False), (b"1000001", False)]
)
def test_a_row_is_late_when_its_deadline_has_passed(deadline, is_late):
    one = row(deadline)
    assert split_late([one], NOW_MS) == (([], [one]) if is_late else ([one], []))


def test_late_rows_leave_a_batch_and_the_others_keep_their_order():
    rows = [row(b""), row(b"1"), row(b"2000000"), row(b"2")]
    assert split_late(rows, NOW_MS) == ([rows[0], rows[2]], [rows[1], rows[3]])
