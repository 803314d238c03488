"""A stand-in with the interface of TensorRT-LLM's LLM API, as far as its handler uses it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from words import Tokenizer, continuation, grow


@dataclass(kw_only=True)
class SamplingParams:
    max_tokens: int = 32
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


class Result:
    """Of one request; it is iterated while it grows."""

    def __init__(self, engine: "LLM", prompt: str | list[int], sampling: SamplingParams) -> None:
        self._engine, self._sampling = engine, sampling
        self._tokens = engine.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
        self._name = f"request{len(engine.requests)}"
        engine.requests[self._name] = "running"

    def abort(self) -> None:
        self._engine.requests[self._name] = "aborted"

    async def __aiter__(self) -> AsyncIterator[SimpleNamespace]:
        facts = {
            "engine": self._engine.arguments,
            "options": vars(self._sampling),
            "requests": self._engine.requests,
        }
        words = continuation(self._tokens, self._engine.tokenizer, facts)
        for said, end in grow(words, self._sampling.max_tokens):
            await asyncio.sleep(0.01)
            if self._engine.requests[self._name] == "aborted":
                return
            yield self._output(said, end)
        self._engine.requests[self._name] = "ended"

    def _output(self, said: list[str], end: str | None) -> SimpleNamespace:
        best = SimpleNamespace(text=" ".join(said), finish_reason=end, token_ids=list(range(len(said))))
        return SimpleNamespace(outputs=[best], prompt_token_ids=self._tokens)


class LLM:
    def __init__(self, model: str, tokenizer: str | None = None, **options: Any) -> None:
        self.arguments = {"model": model, "tokenizer": tokenizer, **options}
        self.tokenizer = Tokenizer()
        self.requests: dict[str, str] = {}

    def generate_async(
        self, inputs: str | list[int], sampling_params: SamplingParams, streaming: bool = False
    ) -> Result:
        assert streaming
        return Result(self, inputs, sampling_params)
