import asyncio
import json

import pytest

from ts.torch_handler._openai import OpenAIHandler, Step
from ts.utils.util import PredictionException

WORDS = ["Once", "Once upon", "Once upon a time"]


class Teller(OpenAIHandler):
    """Always tells the same story."""

    def model_names(self):
        return ["teller", *self.adapters]

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

    def check_wanted(self):
        pass


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
    answer, _ = ask("v1/completions", {"prompt": "tell", "max_tokens": 9, "user": "me"})
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


def refusal(ask, path, body):
    with pytest.raises(PredictionException) as caught:
        ask(path, body)
    assert caught.value.error_code == 400
    return caught.value.message


@pytest.mark.parametrize("body", [None, b"", bytearray(b" "), {}, b"{}", b"[1]", b"hello", b"\xff", "7", [1]])
@pytest.mark.parametrize(
    ("path", "example"),
    [("", '{"prompt": '), ("v1/completions", '{"prompt": '), ("v1/chat/completions", '{"messages": [')],
)
def test_a_request_without_its_field_is_a_400_that_shows_what_would_be_right(ask, path, example, body):
    assert example in refusal(ask, path, body)


def test_a_body_that_is_no_json_object_is_named(ask):
    assert "the request has no JSON body" in refusal(ask, "", b"")
    assert "the body is not JSON" in refusal(ask, "", b"{prompt: x}")
    assert "the body is a list, not a JSON object" in refusal(ask, "", b"[1]")


def test_a_field_of_the_other_route_is_pointed_to_it(ask):
    assert '"messages" belongs to v1/chat/completions' in refusal(ask, "v1/completions", {"messages": []})
    assert '"prompt" belongs to v1/completions' in refusal(ask, "v1/chat/completions", {"prompt": "x"})


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        ("", "is empty"),
        (["a", "b"], "2 prompts"),
        (7, "is a number"),
        ({"a": 1}, "is an object"),
        ([1, "a"], "is a list"),
        ([True], "is a list"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_a_400(ask, prompt, fault):
    assert fault in refusal(ask, "v1/completions", {"prompt": prompt})


@pytest.mark.parametrize("prompt", ["tell", ["tell"]])
def test_a_prompt_is_a_text_or_a_list_of_one(ask, teller, prompt):
    ask("v1/completions", {"prompt": prompt})
    assert teller.asked[0] == "tell"


@pytest.mark.parametrize("prompt", [[1, 2], [[1, 2]]])
def test_a_prompt_is_a_list_of_token_ids(ask, teller, prompt):
    ask("v1/completions", {"prompt": prompt})
    assert teller.asked[0] == [1, 2]


@pytest.mark.parametrize(
    ("messages", "fault"),
    [
        ([], "at least one message"),
        ("hi", "at least one message"),
        ([{"content": "hi"}], 'message 0 is not an object with a "role"'),
        ([{"role": "user"}], 'the "content" of message 0 is null'),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "a part of type image_url"),
    ],
)
def test_a_conversation_that_cannot_be_used_is_a_400(ask, messages, fault):
    assert fault in refusal(ask, "v1/chat/completions", {"messages": messages})


def test_the_text_parts_of_a_message_are_joined(ask, teller):
    parts = [{"type": "text", "text": "good"}, {"type": "text", "text": "morning"}]
    ask("v1/chat/completions", {"messages": [{"role": "user", "content": parts}]})
    assert teller.asked[0] == "good\nmorning"


@pytest.mark.parametrize("path", ["", "v1/completions"])
@pytest.mark.parametrize("field", ["model", "lora_adapter"])
def test_an_adapter_is_named_as_the_model_or_as_the_adapter(ask, teller, path, field):
    teller.adapters = ("poet",)
    ask(path, {"prompt": "tell", field: "poet"})
    assert teller.asked[3] == "poet"


@pytest.mark.parametrize("path", ["", "v1/completions"])
@pytest.mark.parametrize("unknown", ["other", "teller", ["poet"]])
def test_an_unknown_adapter_is_a_400_that_names_those_there_are(ask, teller, path, unknown):
    teller.adapters = ("poet",)
    assert "there are: poet" in refusal(ask, path, {"prompt": "tell", "lora_adapter": unknown})


def test_a_model_without_adapters_says_so(ask):
    assert "names no adapters" in refusal(ask, "", {"prompt": "tell", "lora_adapter": "poet"})


def test_an_unknown_model_is_a_404_that_names_those_there_are(ask, teller):
    teller.adapters = ("poet",)
    with pytest.raises(PredictionException, match="there are: teller, poet"):
        ask("", {"prompt": "tell", "model": "other"})


def test_a_streamed_chat_names_the_role_once_and_ends_with_the_usage(ask):
    messages = [{"role": "user", "content": "hi"}]
    body = {"messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    answer, context = ask("v1/chat/completions", body)
    events = [json.loads(chunk.removeprefix("data: ")) for chunk in context.cl_socket.chunks]
    assert [event["object"] for event in events] == ["chat.completion.chunk"] * 3
    assert [event["choices"][0]["delta"] for event in events] == [
        {"role": "assistant", "content": "Once"},
        {"content": " upon"},
        {"content": " a time"},
    ]
    assert [event["choices"][0]["finish_reason"] for event in events] == [None, None, "stop"]
    last, done = answer.split("\n\n")[:2]
    assert json.loads(last.removeprefix("data: "))["usage"]["total_tokens"] == 5
    assert done == "data: [DONE]"


def test_the_options_of_a_stream_are_for_streams(ask):
    wrong = {"prompt": "tell", "stream_options": {"include_usage": True}}
    assert '"stream": true' in refusal(ask, "v1/completions", wrong)
    assert "include_usage" in refusal(
        ask, "v1/completions", {"prompt": "tell", "stream": True, "stream_options": {"other": 1}}
    )


class Refusing(Teller):
    """An engine that refuses the prompt, or fails later."""

    after = 0

    async def generate(self, prompt, options, request_id, model):
        for _ in range(self.after):
            yield Step("x", None, 1, 1)
        raise ValueError("the prompt is too long")


def test_a_prompt_that_the_engine_refuses_is_a_400(ask, teller):
    teller.__class__ = Refusing
    assert "the prompt is too long" in refusal(ask, "v1/completions", {"prompt": "tell"})


def test_an_engine_that_fails_later_is_no_fault_of_the_request(ask, teller):
    teller.__class__, teller.after = Refusing, 1
    with pytest.raises(ValueError, match="too long"):
        ask("v1/completions", {"prompt": "tell"})


def test_a_handler_answers_outside_of_a_replica(teller, make_context):
    context = make_context(headers={"url_path": ""})
    assert asyncio.run(teller.handle([{"body": {"prompt": "tell"}}], context)) == ["Once upon a time"]


class Gone(Exception):
    pass


class Endless(Teller):
    """Generates until it is closed."""

    closed = False

    async def generate(self, prompt, options, request_id, model):
        try:
            while True:
                await asyncio.sleep(0)
                yield Step("x", None, 1, 1)
        finally:
            self.closed = True


@pytest.mark.parametrize("path", ["", "v1/completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_generation_whose_client_is_gone_is_closed(make_context, path, stream):
    handler, context = Endless(), make_context(headers={"url_path": path})
    context.cl_socket = Socket()
    calls = iter(range(3))

    def find_out(*_arguments):
        if next(calls, None) is None:
            raise Gone

    context.cl_socket.stream = context.cl_socket.check_wanted = find_out
    body = {"prompt": "tell", "stream" if path else "streaming": stream}

    async def call():
        with pytest.raises(Gone):
            await handler.handle([{"body": body}], context)
        assert handler.closed

    asyncio.run(call())
