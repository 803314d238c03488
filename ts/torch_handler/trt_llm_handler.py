"""Language models run by TensorRT-LLM, with OpenAI's routes."""

from pathlib import Path

from ._openai import OpenAIHandler, Step
from ._require import require


class TRTLLMHandler(OpenAIHandler):
    """`handler.engine_dir`, `handler.tokenizer_dir` and `handler.kv_cache_config` describe the engine.

    `handler.trt_llm_engine_config` holds further arguments of it.
    """

    def initialize(self, ctx):
        tensorrt_llm = require("tensorrt_llm", "tensorrt-llm")
        section = ctx.model_yaml_config["handler"]
        model_dir = Path(ctx.system_properties["model_dir"])
        given = dict(section.get("trt_llm_engine_config") or {})
        model = section.get("engine_dir") or given.pop("engine_dir")
        arguments = {**given, "model": _local(model_dir, model)}
        tokenizer = section.get("tokenizer_dir")
        if tokenizer:
            arguments["tokenizer"] = _local(model_dir, tokenizer)
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
        return self.engine.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    async def generate(self, prompt, options, request_id, model):
        outputs = self.engine.generate_async(prompt, self.sampling(**options), streaming=True)
        async for output in outputs:
            best = output.outputs[0]
            yield Step(best.text, best.finish_reason, len(output.prompt_token_ids), len(best.token_ids))


def _local(model_dir, path):
    inside = model_dir / path
    return str(inside) if inside.exists() else path
