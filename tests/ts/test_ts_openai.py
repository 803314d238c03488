import asyncio
import json

import pytest

from ts.torch_handler._openai import OpenAIHandler, Step
from ts.utils.util import PredictionException

WORDS = ["Once", "Once upon", "Once upon a time"]


class Teller(OpenAIHandler):
    """Always tells the same story."""

    def model_names(self):
        return ["teller"]

    async def chat_prompt(self, messages):
        return " ".join(message["content"] for message in messages)

    async def generate(self, prompt, options, request_id, model):
        self.asked = (prompt, options, request_id, model)
        for count, text in enumerate(WORDS, 1):
            yield Step(text, "stop" if count == len(WORDS) else None, 2, count)


class Socket:
    def __init__(self):
        self.chunks = []

    def stream(self, values, request_ids, status):
        self.chunks += values


@pytest.fixture
def teller():
    return Teller()


@pytest.fixture
def ask(teller, make_context):
    """Send one request to a route; gives the answer and the context."""

    def send(path, body=None):
        context = make_context(headers={"url_path": path})
        context.cl_socket = Socket()
        return asyncio.run(teller.handle([{"body": body}], context))[0], context

    return send


def test_models_are_listed(ask):
    assert ask("v1/models")[0]["data"] == [{"id": "teller", "object": "model"}]


def test_a_completion_has_text_and_usage(ask, teller):
    answer, _ = ask("v1/completions", {"prompt": "tell", "max_tokens": 9, "ignored": 1})
    assert teller.asked == ("tell", {"max_tokens": 9}, "id-0", "teller")
    assert answer["choices"] == [{"index": 0, "text": "Once upon a time", "finish_reason": "stop"}]
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}


def test_a_chat_has_a_message(ask, teller):
    answer, _ = ask("v1/chat/completions", b'{"messages": [{"role": "user", "content": "hi"}]}')
    assert teller.asked[0] == "hi"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Once upon a time"}


def test_a_stream_sends_what_is_new_and_ends_with_done(ask):
    answer, context = ask("v1/completions", {"prompt": "tell", "stream": True})
    events = [json.loads(chunk.removeprefix("data: ")) for chunk in context.cl_socket.chunks]
    assert [event["choices"][0]["text"] for event in events] == ["Once", " upon", " a time"]
    assert answer == "data: [DONE]\n\n"
    assert context.get_response_content_type(0) == "text/event-stream"


@pytest.mark.parametrize(
    ("path", "body"), [("v1/nope", {}), ("v1/completions", {"prompt": "x", "model": "other"})]
)
def test_unknown_routes_and_models_are_not_found(ask, path, body):
    with pytest.raises(PredictionException) as caught:
        ask(path, body)
    assert caught.value.error_code == 404
