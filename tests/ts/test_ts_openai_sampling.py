"""Sampling options of requests: passed to the engine or refused with a reason, none dropped."""

import pytest

from ts.torch_handler._openai.answers import Answer, ChatAnswer
from ts.torch_handler._openai.sampling import (
    COMPLETION,
    CONVERSATION,
    PLAIN,
    make_parameters,
    read_chat_logprobs,
    read_options,
)
from ts.torch_handler._openai.steps import Step, Token
from ts.utils.util import PredictionException


def refusal(function, *arguments):
    with pytest.raises(PredictionException) as caught:
        function(*arguments)
    assert caught.value.error_code == 400
    return caught.value.message


@pytest.mark.parametrize("route", [PLAIN, COMPLETION, CONVERSATION])
def test_options_reach_the_engine_whatever_their_name(route):
    given = {"temperature": 0, "stop": ["a", "b"], "seed": 3, "max_tokens": 7, "of_another_engine": [1]}
    assert read_options({"model": "m", "user": "u", **given, "top_p": None}, route, {}) == given


def test_numbers_of_tokens_have_the_names_of_their_routes():
    assert read_options({"max_new_tokens": 3}, PLAIN, {}) == {"max_tokens": 3}
    assert read_options({}, PLAIN, {}) == {"max_tokens": 50}
    assert read_options({"max_completion_tokens": 3}, CONVERSATION, {}) == {"max_tokens": 3}


def test_biases_are_given_by_token():
    assert read_options({"logit_bias": {"50256": -100}}, COMPLETION, {}) == {"logit_bias": {50256: -100}}


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("n", 2, "one answer"),
        ("echo", True, "does not repeat the prompt"),
        ("suffix", "end", "not inserted"),
        ("tools", [{"type": "function"}], "not parsed"),
        ("tool_choice", "auto", "not parsed"),
        ("response_format", {"type": "json_object"}, "not held to a format"),
        ("guided_decoding", {"json": {}}, "not held to a format"),
        ("streaming", True, '"stream"'),
        ("prompt_logprobs", 1, "not returned"),
        ("output_kind", 1, "the handler sets it"),
    ],
)
def test_options_that_have_no_effect_are_refused_with_a_reason(field, value, reason):
    text = refusal(read_options, {field: value}, COMPLETION, {})
    assert f'"{field}" cannot be' in text
    assert reason in text


@pytest.mark.parametrize(
    ("field", "value"), [("n", 1), ("echo", False), ("tools", []), ("response_format", {"type": "text"})]
)
def test_options_that_ask_for_the_usual_are_taken(field, value):
    assert read_options({field: value}, COMPLETION, {}) == {}


def test_an_engine_refuses_options_of_its_own():
    text = refusal(read_options, {"logprobs": 1}, COMPLETION, {"logprobs": (None, "not read")})
    assert "not read" in text


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("temperature", "hot", "a number"),
        ("temperature", True, "a number"),
        ("max_tokens", 1.5, "an integer"),
        ("seed", "x", "an integer"),
        ("stop", [1], "a text or a list of texts"),
        ("ignore_eos", "yes", "true or false"),
        ("stop_token_ids", ["a"], "a list of integers"),
        ("logit_bias", {"a": 1}, "an object of token ids and numbers"),
        ("logit_bias", [1], "an object of token ids and numbers"),
        ("of_another_engine", {"a": 1}, "no object"),
    ],
)
def test_a_value_of_another_type_is_refused_before_the_engine_sees_it(field, value, right):
    assert f'"{field}" must be {right}' in refusal(read_options, {field: value}, COMPLETION, {})


def test_fields_that_are_internal_to_the_engine_are_refused():
    assert "internal" in refusal(read_options, {"_eos_token_id": 1}, COMPLETION, {})


def test_a_field_that_the_engine_does_not_know_is_named():
    def parameters(*, temperature=1.0):
        if temperature < 0:
            raise ValueError("temperature must be non-negative")

    assert "'best'" in refusal(make_parameters, parameters, {"best": 1})
    assert "temperature must be non-negative" in refusal(make_parameters, parameters, {"temperature": -1})


def test_log_probabilities_of_a_conversation_are_a_switch_and_a_number():
    assert read_chat_logprobs({"logprobs": True, "top_logprobs": 2}) == {"logprobs": 2}
    assert read_chat_logprobs({"logprobs": True}) == {"logprobs": 0}
    assert read_chat_logprobs({"logprobs": False, "a": 1}) == {"a": 1}
    assert '"logprobs": true' in refusal(read_chat_logprobs, {"top_logprobs": 2})
    assert "true or false" in refusal(read_chat_logprobs, {"logprobs": 2})


TOKENS = [Token("Once", -0.5, [("Once", -0.5), ("Then", -1.5)]), Token(" é", float("-inf"), [])]
STEPS = [Step("Once", None, 1, 1, TOKENS[:1]), Step("Once é", "stop", 1, 2, TOKENS)]


def test_log_probabilities_of_a_completion():
    [choice] = Answer("id", "m").whole(STEPS[1])["choices"]
    assert choice["logprobs"] == {
        "tokens": ["Once", " é"],
        "token_logprobs": [-0.5, -9999.0],
        "top_logprobs": [{"Once": -0.5, "Then": -1.5}, {}],
        "text_offset": [0, 4],
    }


def test_log_probabilities_of_a_streamed_completion_are_those_of_the_new_tokens():
    answer = Answer("id", "m")
    answer.event(STEPS[0])
    assert '"tokens": [" \\u00e9"]' in (event := answer.event(STEPS[1]))
    assert '"text_offset": [4]' in event


def test_log_probabilities_of_a_conversation():
    [choice] = ChatAnswer("id", "m").whole(STEPS[1])["choices"]
    first, second = choice["logprobs"]["content"]
    assert (first["token"], first["logprob"], first["bytes"]) == ("Once", -0.5, list(b"Once"))
    assert [each["token"] for each in first["top_logprobs"]] == ["Once", "Then"]
    assert second["bytes"] == list(" é".encode())
