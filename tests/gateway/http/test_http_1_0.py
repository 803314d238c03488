import pytest

from gateway.asgi import respond_error
from gateway.http.http_1_0 import Http10
from marq.errors import StreamBroken
from marq.queue.replies.parts import MOST_UNREAD

PART = b"x" * 2**20
SCOPE = {"type": "http", "http_version": "1.0", "headers": []}


@pytest.mark.parametrize(("parts", "status"), [(3, 200), (MOST_UNREAD // len(PART) + 1, 503)])
async def test_a_stream_is_collected_up_to_a_limit(parts, status):
    async def app(_scope, _receive, send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(parts):
                await send({"type": "http.response.body", "body": PART, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except StreamBroken as error:
            await respond_error(send, error, b"1")

    sent = []

    async def send(message) -> None:
        sent.append(message)

    await Http10(app)(SCOPE, None, send)
    start, body = sent
    assert start["status"] == status
    lengths = [value for name, value in start["headers"] if name == b"content-length"]
    assert lengths == [b"%d" % len(body["body"])]
    assert (body["body"] == PART * parts) is (status == 200)
