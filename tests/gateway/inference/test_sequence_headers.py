import pytest

from gateway.inference.sequence_headers import USUAL, SequenceHeaders
from marq.queue.entries import EntryHead
from marq.settings.fields import Settings

OWN = SequenceHeaders.of(["X-Session", "X-First", "X-Last"])


def placed(headers, *given):
    head = headers.place(EntryHead(type=b"a/b"), list(given))
    assert head.type == b"a/b"
    return head.sequence, head.sequence_start, head.sequence_end


def test_the_id_is_that_of_the_client_whatever_the_case_of_its_name():
    assert placed(USUAL, (b"Ts_Request_Sequence_Id", b"s1")) == (b"s1", b"", b"")
    assert placed(USUAL, (b"ts_request_sequence_id", b"\xe9")) == ("é".encode(), b"", b"")


EMPTY, START = (b"ts_request_sequence_id", b""), (b"ts_request_sequence_start", b"true")


@pytest.mark.parametrize("given", [[], [EMPTY], [START]])
def test_without_an_id_a_new_sequence_begins(given):
    (first, starts, _), (second, _, _) = placed(USUAL, *given), placed(USUAL, *given)
    assert first.startswith(b"ts-seq-")
    assert first != second
    assert starts == b"1"


@pytest.mark.parametrize(("value", "ends"), [(b"true", b"1"), (b"True", b"1"), (b"false", b""), (b"", b"")])
def test_the_client_says_which_request_is_the_last_one(value, ends):
    given = [(b"ts_request_sequence_id", b"s"), (b"ts_request_sequence_end", value)]
    assert placed(USUAL, *given) == (b"s", b"", ends)


def test_the_names_are_settings():
    assert placed(OWN, (b"x-session", b"s"), (b"x-last", b"true")) == (b"s", b"", b"1")
    assert SequenceHeaders.of(Settings().sequence_headers) == USUAL
