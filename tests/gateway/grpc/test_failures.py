import grpc
import pytest

from gateway.grpc import failures
from marq.errors import InvalidToken, ModelNotFound, QueueFull, StreamBroken
from marq.queue.replies.entries import Reply

Code = grpc.StatusCode
FAILED = "\norg.pytorch.serve.http.InternalServerException"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, Code.OK),
        (206, Code.OK),
        (418, Code.FAILED_PRECONDITION),
        (507, Code.INTERNAL),
        (302, Code.UNKNOWN),
    ],
)
def test_codes_of_statuses_without_one_of_their_own(status, code):
    assert failures.code_of(status) is code


def test_a_full_queue_says_when_to_retry():
    found = failures.refused(QueueFull("full", 7))
    assert (found.code, found.trailers) == (Code.UNAVAILABLE, (("retry-after", "7"),))
    assert found.text == "full\nInternalServerException.()"


def test_an_answer_that_broke_off_is_unavailable():
    found = failures.failed(StreamBroken("broken"))
    assert (found.code, found.text, found.trailers) == (Code.UNAVAILABLE, "broken" + FAILED, ())


def test_a_token_that_is_not_valid_is_unauthenticated():
    found = failures.unknown(InvalidToken("no token"), Code.INTERNAL)
    assert (found.code, found.text) == (Code.UNAUTHENTICATED, "no token")


def test_the_code_of_an_unknown_model_is_the_services():
    assert failures.unknown(ModelNotFound("no"), Code.NOT_FOUND).code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"code": 500, "type": "X", "message": "why"}', "why"),
        (b"plain", "plain"),
        (b"\xff", "\ufffd"),
        (b"[1]", "[1]"),
        (b'"text"', '"text"'),
        (b"", ""),
    ],
)
def test_the_text_of_an_error_is_the_message_or_the_handlers_own(body, text):
    assert failures.of_reply(Reply(b"i", 500, body)).text == text + FAILED


def test_a_long_text_is_cut_before_its_second_line():
    text = failures.of_reply(Reply(b"i", 500, "ü".encode() * 10_000)).text
    assert len(text) <= failures.MOST_TEXT and text.endswith("ü" + FAILED)
