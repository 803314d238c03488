"""The sampling options of a request: passed to the engine or refused with a reason, never dropped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ts.utils.util import PredictionException

# Fields that say what to generate and how to send it; `user` is a label for the caller's own use.
ROUTE_FIELDS = frozenset({"prompt", "messages", "model", "lora_adapter", "user"})
# Fields that have one value only here: the value, and the reason.
FIXED = {
    "n": (1, "a request has one answer"),
    "echo": (False, "an answer does not repeat the prompt"),
    "suffix": ("", "text is not inserted"),
    "tools": ([], "tool calls are not parsed"),
    "tool_choice": ("none", "tool calls are not parsed"),
    "functions": ([], "tool calls are not parsed"),
    "function_call": ("none", "tool calls are not parsed"),
    "response_format": ({"type": "text"}, "answers are not held to a format"),
    "structured_outputs": (None, "answers are not held to a format"),
    "guided_decoding": (None, "answers are not held to a format"),
    "logits_processors": (None, "JSON cannot hold functions"),
    **dict.fromkeys(
        ("prompt_logprobs", "prompt_logprob_token_ids", "prompt_logprob_start"),
        (None, "log probabilities of the prompt are not returned"),
    ),
    **dict.fromkeys(
        ("output_kind", "flat_logprobs", "output_text_buffer_length", "skip_clone"),
        (None, "the handler sets it"),
    ),
    "detokenize": (True, "answers are text"),
}


def _is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_integer(value):
    return type(value) is int


def _is_switch(value):
    return isinstance(value, bool)


def _are_texts(value):
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(each, str) for each in value)
    )


def _are_integers(value):
    return isinstance(value, list) and all(map(_is_integer, value))


def _is_no_object(value):
    return not isinstance(value, dict)


def _are_biases(value):
    return isinstance(value, dict) and all(
        token.lstrip("-").isdecimal() and _is_number(bias) for token, bias in value.items()
    )


NUMBERS = (
    "temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty",
    "length_penalty",
)  # fmt: skip
INTEGERS = (
    "max_tokens", "min_tokens", "top_k", "seed", "best_of", "logprobs", "truncate_prompt_tokens",
    "stream_interval", "thinking_token_budget",
)  # fmt: skip
SWITCHES = (
    "ignore_eos", "skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output",
)  # fmt: skip
# Engines do not check all types, and a wrong one can end an engine.
TYPES = {
    **dict.fromkeys(NUMBERS, (_is_number, "a number")),
    **dict.fromkeys(INTEGERS, (_is_integer, "an integer")),
    **dict.fromkeys(SWITCHES, (_is_switch, "true or false")),
    "stop": (_are_texts, "a text or a list of texts"),
    "bad_words": (_are_texts, "a list of texts"),
    "stop_token_ids": (_are_integers, "a list of integers"),
    "allowed_token_ids": (_are_integers, "a list of integers"),
    "logit_bias": (_are_biases, "an object of token ids and numbers"),
}


@dataclass(frozen=True)
class Route:
    """How a route differs: fields of its own, other names and defaults of options, more of FIXED."""

    fields: frozenset[str]
    other_names: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


PLAIN = Route(
    frozenset({"streaming"}),
    other_names={"max_new_tokens": "max_tokens"},
    fixed={
        "stream": (False, 'this route has "streaming"'),
        "logprobs": (None, "the answer is plain text; v1/completions returns them"),
    },
    defaults={"max_tokens": 50},
)
COMPLETION = Route(
    frozenset({"stream", "stream_options"}), fixed={"streaming": (False, 'this route has "stream"')}
)
CONVERSATION = Route(COMPLETION.fields, {"max_completion_tokens": "max_tokens"}, COMPLETION.fixed)


def read_options(body, route, fixed):
    """The engine's options. `fixed`: more of FIXED, for the engine."""
    options = dict(route.defaults)
    fixed = {**FIXED, **route.fixed, **fixed}
    for given, value in body.items():
        if value is None or given in ROUTE_FIELDS or given in route.fields:
            continue
        name = route.other_names.get(given, given)
        if name in fixed:
            _check_fixed(given, value, *fixed[name])
        else:
            _check_type(given, name, value)
            options[name] = value
    if "logit_bias" in options:
        options["logit_bias"] = {int(token): bias for token, bias in options["logit_bias"].items()}
    return options


def read_chat_logprobs(body):
    """The body with the number of alternatives as `logprobs`, as it is in v1/completions."""
    wanted, count = body.get("logprobs") or False, body.get("top_logprobs")
    if not isinstance(wanted, bool):
        raise PredictionException('"logprobs" must be true or false here; "top_logprobs" is the number', 400)
    if count is not None and not wanted:
        raise PredictionException('"top_logprobs" needs "logprobs": true', 400)
    rest = {name: value for name, value in body.items() if name not in ("logprobs", "top_logprobs")}
    return {**rest, "logprobs": count or 0} if wanted else rest


def make_parameters(parameters_class, options, refusals=(ValueError,)):
    """The engine's own object. An option that the engine does not know, or a value out of range, is a 400."""
    try:
        return parameters_class(**options)
    except (TypeError, *refusals) as error:
        raise PredictionException(f"the engine refuses the sampling options: {error}", 400) from error


def _check_type(given, name, value):
    fits, words = TYPES.get(name, (_is_no_object, "no object: the engine takes objects of its own classes"))
    if name.startswith("_"):
        raise PredictionException(f'"{given}" is internal to the engine', 400)
    if not fits(value):
        raise PredictionException(f'"{given}" must be {words}, not {json.dumps(value)}', 400)


def _check_fixed(given, value, allowed, reason):
    if value != allowed:
        instead = "leave it out" if allowed is None else f"leave it out or give {json.dumps(allowed)}"
        raise PredictionException(f'"{given}" cannot be {json.dumps(value)}: {reason}; {instead}', 400)
