"""Language models run by vLLM, with OpenAI's routes."""

import asyncio
import contextlib
import inspect
import os
from pathlib import Path

from . import _local_paths as local_paths
from ._openai import OpenAIHandler, Step, Token
from ._openai.sampling import make_parameters
from ._require import require


class VLLMHandler(OpenAIHandler):
    """`handler.vllm_engine_config` holds vLLM's engine arguments, `handler.adapters` names LoRA folders.

    Paths in model-config.yaml may be relative to the model directory.
    """

    chat_options = {"max_tokens": None}  # noqa: RUF012 - read only: as long as the context allows

    def initialize(self, ctx):
        vllm = require("vllm", "vllm")
        os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # CUDA does not survive a fork
        section = ctx.model_yaml_config.get("handler") or {}
        self.model_dir = Path(ctx.system_properties["model_dir"])
        config = dict(section.get("vllm_engine_config") or {})
        self.model_id = config.get("model") or section.get("model_path")
        if not self.model_id:
            raise ValueError("model-config.yaml has neither handler.model_path nor vllm_engine_config.model")
        self.adapters = section.get("adapters") or {}
        self.names = [*self._served_names(config, ctx.model_name), *self.adapters]
        self.chat_template = local_paths.read_text(self.model_dir, section.get("chat_template"))
        self.sampling, self.refusals = vllm.SamplingParams, _refusals()
        engine = vllm.AsyncEngineArgs(**self._engine_arguments(config))
        self.engine = vllm.AsyncLLMEngine.from_engine_args(engine)
        self.initialized = True

    def model_names(self):
        return self.names

    async def chat_prompt(self, messages):
        tokenizer = self.engine.get_tokenizer()
        if inspect.isawaitable(tokenizer):  # in older versions of vLLM
            tokenizer = await tokenizer
        text = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, chat_template=self.chat_template
        )
        return tokenizer.encode(text, add_special_tokens=False)  # the template has put them in

    async def generate(self, prompt, options, request_id, model):
        parameters = make_parameters(self.sampling, options, self.refusals)
        inputs = prompt if isinstance(prompt, str) else {"prompt_token_ids": prompt}
        outputs = self.engine.generate(inputs, parameters, request_id, lora_request=self._adapter(model))
        tokens = []
        async with contextlib.aclosing(outputs):
            try:
                async for output in outputs:
                    best = output.outputs[0]
                    tokens += _new_tokens(best, len(tokens))
                    prompt_tokens = len(output.prompt_token_ids or ())
                    yield Step(best.text, best.finish_reason, prompt_tokens, len(best.token_ids), tokens)
            except (GeneratorExit, asyncio.CancelledError):
                await self.engine.abort(request_id)
                raise

    def _engine_arguments(self, config):
        """Those of model-config.yaml, with whole paths: the engine's processes may run elsewhere."""
        arguments = {**config, "model": local_paths.find(self.model_dir, self.model_id)}
        if arguments.get("tokenizer"):
            arguments["tokenizer"] = local_paths.find(self.model_dir, arguments["tokenizer"])
        if arguments.get("download_dir"):
            arguments["download_dir"] = str(self.model_dir / arguments["download_dir"])
        if self.adapters:
            arguments.setdefault("enable_lora", True)
        return arguments

    def _adapter(self, model):
        if model not in self.adapters:
            return None
        number = list(self.adapters).index(model) + 1
        path = local_paths.find(self.model_dir, self.adapters[model])
        return require("vllm.lora.request", "vllm").LoRARequest(model, number, path)

    def _served_names(self, config, registered):
        """Those of the engine's option, else the model's id, and the name under which it is registered."""
        names = config.pop("served_model_name", None) or [self.model_id, registered]
        return names if isinstance(names, list) else [names]


def _refusals():
    """The exceptions for requests that vLLM refuses; older versions have none of their own."""
    try:
        from vllm.exceptions import VLLMClientError
    except ImportError:
        return (ValueError,)
    return (ValueError, VLLMClientError)


def _new_tokens(best, known):
    """The tokens from the one with the number `known` on; none unless the request wants log probabilities."""
    if not best.logprobs:
        return []
    return [
        _token(token_id, candidates)
        for token_id, candidates in zip(best.token_ids[known:], best.logprobs[known:], strict=False)
    ]


def _token(token_id, candidates):
    """`candidates`: vLLM's `Logprob` for each token id."""
    chosen = candidates[token_id]
    alternatives = [(each.decoded_token or "", each.logprob) for each in candidates.values()]
    return Token(chosen.decoded_token or "", chosen.logprob, alternatives)
