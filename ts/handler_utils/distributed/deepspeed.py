"""A model run by DeepSpeed, as the `deepspeed` section of its YAML describes."""

import json
from pathlib import Path


def get_ds_engine(model, ctx):
    """The inference engine around `model`; its configuration is the JSON file `deepspeed.config`."""
    try:
        import deepspeed
    except ImportError as error:
        raise ImportError("this handler needs the package deepspeed: pip install deepspeed") from error

    section = ctx.model_yaml_config["deepspeed"]
    if "config" not in section:
        raise ValueError("the model's YAML must name a DeepSpeed configuration under deepspeed.config")
    model_dir = Path(ctx.system_properties["model_dir"])
    config = json.loads((model_dir / section["config"]).read_text(encoding="utf-8"))
    checkpoint = section.get("checkpoint")
    if checkpoint:
        checkpoint = str(model_dir / checkpoint)
        model_path = (ctx.model_yaml_config.get("handler") or {}).get("model_path")
        if model_path and not Path(checkpoint).exists():
            create_checkpoints_json(model_path, checkpoint)
    return deepspeed.init_inference(model, config=config, checkpoint=checkpoint)


def create_checkpoints_json(model_path, checkpoint_json):
    """Write the list of a model's weight files, which DeepSpeed reads to load them."""
    files = sorted(str(path) for path in Path(model_path).rglob("*") if path.suffix in (".bin", ".pt"))
    description = {"type": "ds_model", "checkpoints": files, "version": 1.0}
    Path(checkpoint_json).write_text(json.dumps(description), encoding="utf-8")
