"""Language models run by vLLM, with OpenAI's routes."""

from pathlib import Path

from ._openai import OpenAIHandler, Step
from ._require import require


class VLLMHandler(OpenAIHandler):
    """`handler.vllm_engine_config` holds vLLM's engine arguments, `handler.adapters` names LoRA folders."""

    def initialize(self, ctx):
        vllm = require("vllm", "vllm")
        section = ctx.model_yaml_config.get("handler") or {}
        self.model_dir = Path(ctx.system_properties["model_dir"])
        config = dict(section.get("vllm_engine_config") or {})
        self.model_id = section.get("model_path") or config.get("model")
        config["model"] = self._local(self.model_id)
        self.adapters = section.get("adapters") or {}
        self.chat_template = section.get("chat_template")
        self.names = [*self._served_names(config, ctx.model_name), *self.adapters]
        self.sampling = vllm.SamplingParams
        self.engine = vllm.AsyncLLMEngine.from_engine_args(vllm.AsyncEngineArgs(**config))
        self.initialized = True

    def model_names(self):
        return self.names

    async def chat_prompt(self, messages):
        tokenizer = await self.engine.get_tokenizer()
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, chat_template=self.chat_template
        )

    async def generate(self, prompt, options, request_id, model):
        outputs = self.engine.generate(
            prompt, self.sampling(**options), request_id, lora_request=self._adapter(model)
        )
        async for output in outputs:
            best = output.outputs[0]
            yield Step(best.text, best.finish_reason, len(output.prompt_token_ids), len(best.token_ids))

    def _adapter(self, model):
        if model not in self.adapters:
            return None
        number = list(self.adapters).index(model) + 1
        return require("vllm.lora.request", "vllm").LoRARequest(
            model, number, self._local(self.adapters[model])
        )

    def _served_names(self, config, registered):
        """Those of the engine's option, else the model's id, and the name under which it is registered."""
        names = config.pop("served_model_name", None) or [self.model_id, registered]
        return names if isinstance(names, list) else [names]

    def _local(self, path):
        """A path inside the model directory if it is there, else a path or a name of the hub."""
        inside = self.model_dir / str(path)
        return str(inside) if inside.exists() else path
