"""Image preprocessing on the GPU with NVIDIA DALI."""

from pathlib import Path

INPUT_NAME = "my_source"


def get_dali_pipeline(context):
    """The pipeline of the model's YAML: the serialised file `dali.pipeline_file`, built and ready."""
    try:
        from nvidia.dali import Pipeline
    except ImportError as error:
        raise ImportError("this handler needs NVIDIA DALI: pip install nvidia-dali-cuda120") from error

    section = context.model_yaml_config["dali"]
    pipeline = Pipeline.deserialize(
        filename=str(Path(context.system_properties["model_dir"]) / section["pipeline_file"]),
        batch_size=section.get("batch_size", 1),
        num_threads=section.get("num_threads", 1),
        device_id=section.get("device_id", 0),
        seed=section.get("seed", -1),
    )
    pipeline.build()
    return pipeline
