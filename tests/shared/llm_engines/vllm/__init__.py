"""A stand-in with vLLM's interface, as far as its handler uses it."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

from words import Tokenizer, continuation, grow

from vllm.exceptions import VLLMClientError

MODEL_LENGTH = 50


class SamplingParams:
    def __init__(
        self, *, n=1, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, seed=None, stop=None, max_tokens=16,
        presence_penalty=0.0, frequency_penalty=0.0, logprobs=None, logit_bias=None,
    ):  # fmt: skip
        given = {name: value for name, value in locals().items() if name != "self"}
        if temperature < 0:
            raise VLLMClientError(f"temperature must be non-negative, got {temperature}.")
        self.__dict__.update(given)


class AsyncEngineArgs(SimpleNamespace):
    pass


class AsyncLLMEngine:
    def __init__(self, args: AsyncEngineArgs) -> None:
        self.args, self.tokenizer = args, Tokenizer()
        self.requests: dict[str, str] = {}

    @classmethod
    def from_engine_args(cls, args: AsyncEngineArgs) -> "AsyncLLMEngine":
        return cls(args)

    def get_tokenizer(self) -> Tokenizer:
        return self.tokenizer

    async def abort(self, request_id: str) -> None:
        self.requests[request_id] = "aborted"

    async def generate(
        self, prompt: Any, sampling: SamplingParams, request_id: str, lora_request: Any = None
    ) -> AsyncIterator[SimpleNamespace]:
        tokens = prompt["prompt_token_ids"] if isinstance(prompt, dict) else self.tokenizer.encode(prompt)
        if len(tokens) > MODEL_LENGTH:
            raise VLLMClientError(f"the prompt has {len(tokens)} tokens, the model takes {MODEL_LENGTH}")
        self.requests[request_id] = "running"
        facts = {
            "engine": dict(sorted(vars(self.args).items())),
            "options": vars(sampling),
            "requests": self.requests,
            "adapter": vars(lora_request) if lora_request else {"no": "adapter"},
        }
        words = continuation(tokens, self.tokenizer, facts)
        for said, end in grow(words, sampling.max_tokens):
            await asyncio.sleep(0.01)
            if self.requests[request_id] == "aborted":
                return
            yield self._output(said, tokens, sampling, end)
        self.requests[request_id] = "ended"

    def _output(
        self, said: list[str], tokens: list[int], sampling: SamplingParams, end: str | None
    ) -> SimpleNamespace:
        ids = self.tokenizer.encode(" ".join(said), add_special_tokens=False)
        logprobs = None
        if sampling.logprobs is not None:
            logprobs = [
                {token: SimpleNamespace(logprob=-0.5, decoded_token=self.tokenizer.decode([token]))}
                for token in ids
            ]
        best = SimpleNamespace(text=" ".join(said), finish_reason=end, token_ids=ids, logprobs=logprobs)
        return SimpleNamespace(outputs=[best], prompt_token_ids=tokens)
