"""OpenAI's completion routes for handlers of language models."""

import json
import time
from abc import ABC, abstractmethod
from typing import NamedTuple

from ts.handler_utils.utils import send_intermediate_predict_response
from ts.utils.util import PredictionException

from .base_handler import BaseHandler

OPTIONS = (
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "stop",
    "seed",
    "presence_penalty",
    "frequency_penalty",
)
PLAIN_TOKENS = 50  # of an answer to a plain request that names no limit


class Step(NamedTuple):
    """What is generated so far."""

    text: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int


class OpenAIHandler(BaseHandler, ABC):
    """Answers one request per call, as a coroutine; the header `url_path` names the route.

    Routes: `v1/models`, `v1/completions`, `v1/chat/completions`; the last two also as a stream. Without a
    route a request is `{"prompt", "max_tokens", "streaming"}`, its answer plain text or parts `{"text"}`.
    """

    @abstractmethod
    def generate(self, prompt, options, request_id, model):
        """An async iterator of `Step`s."""

    @abstractmethod
    async def chat_prompt(self, messages):
        """The prompt for a conversation."""

    @abstractmethod
    def model_names(self):
        """The names that a request may give as `model`; the first is the default."""

    async def handle(self, data, context):
        start = time.perf_counter()
        path = (context.get_request_header(0, "url_path") or "").strip("/")
        answer = await self._route(path, _body(data[0]), context)
        elapsed_ms = round((time.perf_counter() - start) * 1000, 2)
        context.metrics.add_time("HandlerTime", elapsed_ms, None, "ms")
        return [answer]

    async def _route(self, path, body, context):
        if not path:
            return await self._plain(body, context)
        if path == "v1/models":
            return {
                "object": "list",
                "data": [{"id": name, "object": "model"} for name in self.model_names()],
            }
        if path == "v1/completions":
            return await self._complete(_Format("text_completion"), body["prompt"], body, context)
        if path == "v1/chat/completions":
            prompt = await self.chat_prompt(body["messages"])
            return await self._complete(_Format("chat.completion"), prompt, body, context)
        raise PredictionException(f"there is no route {path}", 404)

    async def _plain(self, body, context):
        if "prompt" not in body:
            raise PredictionException('the request has no "prompt"', 400)
        limit = body.get("max_tokens", body.get("max_new_tokens", PLAIN_TOKENS))
        options = {**_options(body), "max_tokens": limit}
        text = ""
        async for step in self.generate(
            body["prompt"], options, context.get_request_id(0), self.model_names()[0]
        ):
            if body.get("streaming"):
                part = json.dumps({"text": step.text[len(text) :]})
                send_intermediate_predict_response([part], context.request_ids, "Result", 200, context)
            text = step.text
        return "" if body.get("streaming") else text

    async def _complete(self, form, prompt, body, context):
        form.id = context.get_request_id(0)
        form.model = body.get("model") or self.model_names()[0]
        if form.model not in self.model_names():
            raise PredictionException(f"there is no model {form.model}", 404)
        steps = self.generate(prompt, _options(body), form.id, form.model)
        if body.get("stream"):
            return await _stream(form, steps, context)
        return form.whole([step async for step in steps][-1])


async def _stream(form, steps, context):
    context.set_response_content_type(0, "text/event-stream")
    sent = 0
    async for step in steps:
        chunk = f"data: {json.dumps(form.chunk(step, sent))}\n\n"
        sent = len(step.text)
        send_intermediate_predict_response([chunk], context.request_ids, "Prediction success", 200, context)
    return "data: [DONE]\n\n"


def _options(body):
    return {name: body[name] for name in OPTIONS if body.get(name) is not None}


def _body(row):
    value = row.get("data") or row.get("body") or {}
    return json.loads(value) if isinstance(value, (bytes, bytearray, str)) else value


class _Format:
    """The JSON of one answer."""

    id = model = None

    def __init__(self, kind):
        self.kind = kind
        self.created = int(time.time())

    def whole(self, step):
        usage = {
            "prompt_tokens": step.prompt_tokens,
            "completion_tokens": step.completion_tokens,
            "total_tokens": step.prompt_tokens + step.completion_tokens,
        }
        message = {"role": "assistant", "content": step.text}
        content = {"message": message} if self._is_chat() else {"text": step.text}
        return {**self._answer(self.kind, content, step), "usage": usage}

    def chunk(self, step, sent):
        text = step.text[sent:]
        content = {"delta": {"role": "assistant", "content": text}} if self._is_chat() else {"text": text}
        return self._answer(f"{self.kind}.chunk" if self._is_chat() else self.kind, content, step)

    def _answer(self, kind, content, step):
        choice = {"index": 0, **content, "finish_reason": step.finish_reason}
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": [choice],
        }

    def _is_chat(self):
        return self.kind == "chat.completion"
