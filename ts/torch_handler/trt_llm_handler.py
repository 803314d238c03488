"""Language models run by TensorRT-LLM, with OpenAI's routes."""

import asyncio
from pathlib import Path

from . import _local_paths as local_paths
from ._openai import OpenAIHandler, Step
from ._openai.sampling import make_parameters
from ._require import require

RETURNS = (
    "return_context_logits", "return_generation_logits", "return_encoder_output", "return_perf_metrics",
    "additional_model_outputs",
)  # fmt: skip


class TRTLLMHandler(OpenAIHandler):
    """`handler.engine_dir`, `handler.tokenizer_dir` and `handler.kv_cache_config` describe the engine.

    `handler.trt_llm_engine_config` holds further arguments of it. Paths may be relative to
    the model directory.
    """

    fixed = {  # noqa: RUF012 - read only
        "logprobs": (None, "the handler of TensorRT-LLM does not read them"),
        **dict.fromkeys(RETURNS, (False, "the answer has no place for it")),
    }

    def initialize(self, ctx):
        tensorrt_llm = require("tensorrt_llm", "tensorrt-llm")
        section = ctx.model_yaml_config.get("handler") or {}
        model_dir = Path(ctx.system_properties["model_dir"])
        arguments = dict(section.get("trt_llm_engine_config") or {})
        model = section.get("engine_dir") or arguments.get("engine_dir")
        if not model:
            raise ValueError("model-config.yaml has no handler.engine_dir")
        arguments.pop("engine_dir", None)
        arguments["model"] = local_paths.find(model_dir, model)
        if tokenizer := section.get("tokenizer_dir"):
            arguments["tokenizer"] = local_paths.find(model_dir, tokenizer)
        if section.get("kv_cache_config"):
            cache_config = require("tensorrt_llm.llmapi", "tensorrt-llm").KvCacheConfig
            arguments["kv_cache_config"] = cache_config(**section["kv_cache_config"])
        self.names = [model, ctx.model_name]
        self.sampling = tensorrt_llm.SamplingParams
        self.engine = tensorrt_llm.LLM(**arguments)
        self.initialized = True

    def model_names(self):
        return self.names

    async def chat_prompt(self, messages):
        tokenizer = self.engine.tokenizer
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tokenizer.encode(text, add_special_tokens=False)  # the template has put them in

    async def generate(self, prompt, options, request_id, model):
        outputs = self.engine.generate_async(prompt, make_parameters(self.sampling, options), streaming=True)
        try:
            async for output in outputs:
                best = output.outputs[0]
                yield Step(best.text, best.finish_reason, len(output.prompt_token_ids), len(best.token_ids))
        except (GeneratorExit, asyncio.CancelledError):
            outputs.abort()
            raise
