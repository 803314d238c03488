"""The handler that engines' handlers extend."""

import contextlib
import json
import time
from abc import ABC, abstractmethod
from functools import partial

from ts.handler_utils.utils import send_intermediate_predict_response
from ts.torch_handler.base_handler import BaseHandler
from ts.utils.util import PredictionException

from . import requests
from .answers import DONE, Answer, ChatAnswer
from .sampling import COMPLETION, CONVERSATION, PLAIN, read_chat_logprobs, read_options

MODELS, COMPLETIONS, CHAT = "v1/models", "v1/completions", "v1/chat/completions"


class OpenAIHandler(BaseHandler, ABC):
    """Answers one request per call, as a coroutine; the header `url_path` names the route.

    Routes: `v1/models`, `v1/completions`, `v1/chat/completions`; the last two also as a stream. Without a
    route a request is `{"prompt", "max_tokens", "streaming"}`, its answer plain text or parts `{"text"}`.
    A request that is wrong is answered with 400. When the client is gone, the generation ends.
    """

    adapters = ()  # names of LoRA adapters
    chat_options = {}  # noqa: RUF012 - read only: options of a conversation that the request does not give
    fixed = {}  # noqa: RUF012 - read only: options with one value, besides those of sampling.FIXED
    refusals = (ValueError,)  # raised by the engine for a request that it refuses

    @abstractmethod
    def generate(self, prompt, options, request_id, model):
        """An async generator of `Step`s. `prompt` is a text or a list of token ids.

        Closed or cancelled, it ends the engine's generation.
        """

    @abstractmethod
    async def chat_prompt(self, messages):
        """The prompt for a conversation."""

    @abstractmethod
    def model_names(self):
        """The names that a request may give as `model`; the first is the default."""

    async def handle(self, data, context):
        start = time.perf_counter()
        path = (context.get_request_header(0, "url_path") or "").strip("/")
        answer = await self._route(path, data[0], context)
        elapsed_ms = round((time.perf_counter() - start) * 1000, 2)
        context.metrics.add_time("HandlerTime", elapsed_ms, None, "ms")
        return [answer]

    async def _route(self, path, row, context):
        if path == MODELS:
            return {
                "object": "list",
                "data": [{"id": name, "object": "model"} for name in self.model_names()],
            }
        if path == COMPLETIONS:
            return await self._complete(row, context)
        if path == CHAT:
            return await self._chat(row, context)
        if path:
            raise PredictionException(
                f"there is no route {path}; there are: {MODELS}, {COMPLETIONS}, {CHAT}", 404
            )
        return await self._plain(row, context)

    async def _plain(self, row, context):
        body = requests.read_body(row, "prompt")
        options = read_options(body, PLAIN, self.fixed)
        prompt, model = requests.read_prompt(body), self._model(body)
        if not body.get("streaming"):
            return (await self._run(prompt, options, model, context)).text
        sent = 0

        def send(step):
            nonlocal sent
            _send(json.dumps({"text": step.text[sent:]}), context)
            sent = len(step.text)

        await self._run(prompt, options, model, context, send)
        return ""

    async def _complete(self, row, context):
        body = requests.read_body(row, "prompt")
        options = read_options(body, COMPLETION, self.fixed)
        prompt, model = requests.read_prompt(body), self._model(body)
        return await self._answer(Answer, body, prompt, options, model, context)

    async def _chat(self, row, context):
        body = requests.read_body(row, "messages")
        options = self.chat_options | read_options(read_chat_logprobs(body), CONVERSATION, self.fixed)
        messages, model = requests.read_messages(body), self._model(body)
        prompt = await self.chat_prompt(messages)
        return await self._answer(ChatAnswer, body, prompt, options, model, context)

    def _model(self, body):
        return requests.read_model(body, self.model_names(), self.adapters)

    async def _answer(self, form, body, prompt, options, model, context):
        with_usage = requests.wants_usage(body)
        answer = form(context.get_request_id(0), model)
        if not body.get("stream"):
            return answer.whole(await self._run(prompt, options, model, context))
        context.set_response_content_type(0, "text/event-stream")
        last = await self._run(
            prompt, options, model, context, lambda step: _send(answer.event(step), context)
        )
        return (answer.usage_event(last) if with_usage else "") + DONE

    async def _run(self, prompt, options, model, context, send=None):
        """Generates; calls `send` with each step; returns the last one."""
        step = None
        send = send or partial(_check_wanted, context)
        steps = self.generate(prompt, options, context.get_request_id(0), model)
        try:
            async with contextlib.aclosing(steps):
                async for step in steps:
                    send(step)
        except self.refusals as error:
            if step is not None:
                raise
            raise PredictionException(f"the engine refuses the request: {error}", 400) from error
        if step is None:
            raise PredictionException("the engine has ended the request without an answer", 500)
        return step


def _check_wanted(context, _step):
    """Raises once the client is gone. Outside of a replica nothing is known of clients."""
    if check := getattr(context.cl_socket, "check_wanted", None):
        check()


def _send(part, context):
    send_intermediate_predict_response([part], context.request_ids, "Prediction success", 200, context)
