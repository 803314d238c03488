"""Reads a request to a language model. Each fault is a 400 that says what would be right."""

import json

from ts.utils.util import PredictionException

EXAMPLES = {
    "prompt": '{"prompt": "Once upon a time"}',
    "messages": '{"messages": [{"role": "user", "content": "Good morning"}]}',
}
TEXTS = (bytes, bytearray, str)
OTHER_ROUTES = {"prompt": "v1/completions", "messages": "v1/chat/completions"}


def read_body(row, field):
    """The JSON object of a row. `field` is the one that the route requires."""
    value = row.get("data") or row.get("body")
    if value is None or (isinstance(value, TEXTS) and not value.strip()):
        raise _bad("the request has no JSON body", field)
    if isinstance(value, TEXTS):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise _bad(f"the body is not JSON: {error}", field) from error
    if not isinstance(value, dict):
        raise _bad(f"the body is {_kind(value)}, not a JSON object", field)
    if value.get(field) is None:
        other = next((name for name in OTHER_ROUTES if name != field and name in value), None)
        hint = f' ("{other}" belongs to {OTHER_ROUTES[other]})' if other else ""
        raise _bad(f'the request has no "{field}"{hint}', field)
    return value


def read_prompt(body):
    """A text, or a list of token ids."""
    prompt = body["prompt"]
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
        if len(prompt) > 1:
            raise _bad(f'"prompt" has {len(prompt)} prompts; send one request for each', "prompt")
        [prompt] = prompt
    if not (isinstance(prompt, str) or _are_tokens(prompt)):
        raise _bad(f'"prompt" is {_kind(prompt)}, not a text or a list of token ids', "prompt")
    if not prompt:
        raise _bad('"prompt" is empty', "prompt")
    return prompt


def read_messages(body):
    """The conversation; the text parts of a message are joined."""
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise _bad('"messages" is not a list with at least one message', "messages")
    return [_read_message(at, message) for at, message in enumerate(messages)]


def read_model(body, names, adapters):
    """The name of the model or adapter that answers. `names` are those of both, the default first."""
    model = body.get("model") or names[0]
    if model not in names:
        raise PredictionException(f"there is no model {model}; there are: {', '.join(names)}", 404)
    adapter = body.get("lora_adapter")
    if not adapter:
        return model
    if adapter not in list(adapters):
        known = f"there are: {', '.join(adapters)}" if adapters else "model-config.yaml names no adapters"
        raise PredictionException(f"there is no LoRA adapter {adapter}; {known}", 400)
    return adapter


def wants_usage(body):
    """Whether the stream ends with the numbers of tokens."""
    options = body.get("stream_options")
    if options is None:
        return False
    if not body.get("stream"):
        raise PredictionException('"stream_options" needs "stream": true', 400)
    if not isinstance(options, dict) or options.keys() - {"include_usage"}:
        raise PredictionException(
            '"stream_options" is {"include_usage": true} or {"include_usage": false}', 400
        )
    return bool(options.get("include_usage"))


def _read_message(at, message):
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise _bad(f'message {at} is not an object with a "role" and a "content"', "messages")
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(_read_part(at, part) for part in content)
    if not isinstance(content, str):
        raise _bad(f'the "content" of message {at} is {_kind(content)}, not a text', "messages")
    return {**message, "content": content}


def _read_part(at, part):
    kind = part.get("type") if isinstance(part, dict) else None
    if kind != "text" or not isinstance(part.get("text"), str):
        raise _bad(
            f'message {at} has a part of type {kind}; only {{"type": "text", "text": ...}} is read',
            "messages",
        )
    return part["text"]


def _are_tokens(prompt):
    return isinstance(prompt, list) and all(type(token) is int for token in prompt)


def _kind(value):
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return {str: "a text", list: "a list", dict: "an object"}.get(type(value), "a number")


def _bad(fault, field):
    text = f"{fault}. Send a JSON object with Content-Type: application/json, such as {EXAMPLES[field]}"
    return PredictionException(text, 400)
