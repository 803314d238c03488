"""`python -m ts.llm_launcher --model_id NAME`: serves a language model with vLLM or TensorRT-LLM."""

import argparse
import contextlib
import importlib.util
import json
import shutil
import signal
import sys
from pathlib import Path

import yaml

PACKAGES = {
    "vllm": ("vllm", "vllm"),
    "trt_llm": ("tensorrt_llm", "tensorrt-llm"),
}  # module, what pip calls it
MARK = "MAR-INF/made-by-llm-launcher"  # in a model directory that a launcher may delete
ENGINE_OPTIONS = ("vllm_engine.", "trt_llm_engine.")


def read_options(arguments=None):
    """TorchServe's options; others that begin like those of an engine are passed on to it."""
    options, others = parser().parse_known_args(arguments)
    rest, engine = [], {}
    while others:
        name, equals, value = others.pop(0).removeprefix("--").partition("=")
        if not name.startswith(ENGINE_OPTIONS):
            rest.append(name)
            continue
        if not equals:
            value = others.pop(0) if others and not others[0].startswith("--") else "true"
        engine[name] = yaml.safe_load(value)
    if rest:
        parser().error(f"unrecognized arguments: {' '.join(rest)}")
    options.engine_options = engine
    return options


def parser():
    """The options that upstream has, too."""
    made = argparse.ArgumentParser(prog="ts.llm_launcher", description=__doc__.partition(": ")[2])
    made.add_argument("--model_name", default="model", help="name under which it is served")
    made.add_argument("--model_store", default="model_store", help="folder for its archive")
    made.add_argument(
        "--model_id", default="meta-llama/Meta-Llama-3.1-8B-Instruct", help="name on the hub, or a folder"
    )
    made.add_argument("--disable_token_auth", action="store_true", help="accept any caller")
    made.add_argument("--startup_timeout", type=int, default=1200, help="seconds that loading may take")
    made.add_argument("--engine", choices=PACKAGES, default="vllm", help="what runs the model")
    made.add_argument("--dtype", default="bfloat16", help="type of the weights (vllm)")
    made.add_argument("--vllm_engine.max_num_seqs", type=int, default=256, help="requests at the same time")
    made.add_argument("--vllm_engine.max_model_len", type=int, help="tokens of context")
    made.add_argument("--vllm_engine.download_dir", help="folder for weights from the hub")
    made.add_argument("--trt_llm_engine.max_batch_size", type=int, default=4, help="taken, without effect")
    made.add_argument(
        "--trt_llm_engine.kv_cache_free_gpu_memory_fraction", type=float, default=0.1, help="for the cache"
    )
    return made


def check_engine(engine):
    """Raise ImportError, with the package to install, if the engine is missing."""
    module, package = PACKAGES[engine]
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"the engine {engine} needs the package {package}: pip install {package}")


def get_model_config(args, model_snapshot_path=None):
    """The model-config.yaml as a dict."""
    config = {
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": 1,
        "maxBatchDelay": 100,
        "responseTimeout": 1200,
        "startupTimeout": args.startup_timeout,
        "deviceType": "gpu",
        "asyncCommunication": True,
    }
    section = _vllm if args.engine == "vllm" else _tensorrt
    return config | section(vars(args), model_snapshot_path or args.model_id)


def _vllm(options, model):
    names = {}
    if Path(model).is_dir():  # replicas run elsewhere
        names = {"served_model_name": [model, options["model_name"]]}
        model = str(Path(model).resolve())
    download_dir = options["vllm_engine.download_dir"]
    engine = {
        "dtype": options["dtype"],
        "max_num_seqs": options["vllm_engine.max_num_seqs"],
        "max_model_len": options["vllm_engine.max_model_len"],
        "download_dir": str(Path(download_dir).resolve()) if download_dir else None,
        "tensor_parallel_size": _gpus(),
        **names,
    }
    engine = {name: value for name, value in engine.items() if value is not None}
    engine |= _passed_on(options, "vllm_engine.")
    return {"parallelLevel": _gpus(), "handler": {"model_path": model, "vllm_engine_config": engine}}


def _tensorrt(options, model):
    fraction = options["trt_llm_engine.kv_cache_free_gpu_memory_fraction"]
    path = str(Path(model).resolve()) if Path(model).is_dir() else model
    section = {"engine_dir": path, "kv_cache_config": {"free_gpu_memory_fraction": fraction}}
    if passed_on := _passed_on(options, "trt_llm_engine."):
        section["trt_llm_engine_config"] = passed_on
    return {"handler": section}


def _passed_on(options, prefix):
    given = options.get("engine_options") or {}
    return {name.removeprefix(prefix): value for name, value in given.items() if name.startswith(prefix)}


def _gpus():
    import torch

    return max(1, torch.cuda.device_count())


@contextlib.contextmanager
def create_mar_file(args, model_snapshot_path=None):
    """A model directory in the model store while the block runs; yields its path.

    Everything that it makes is deleted afterwards, the model store too if that is empty. Raises
    FileExistsError if there is such a directory already, unless a launcher that was killed has left it.
    """
    store = Path(args.model_store)
    folder = store / args.model_name
    made = [each for each in (store, *store.parents) if not each.exists()]
    if (folder / MARK).exists():
        shutil.rmtree(folder)
    elif folder.exists():
        raise FileExistsError(f"{folder} exists: remove it, or give another --model_name or --model_store")
    try:
        _write_model(folder, args, model_snapshot_path)
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            for each in made:
                each.rmdir()


def _write_model(folder, args, model_snapshot_path):
    (folder / "MAR-INF").mkdir(parents=True)
    (folder / MARK).touch()
    model = {"modelName": args.model_name, "modelVersion": "1.0", "handler": f"{args.engine}_handler"}
    manifest = {"runtime": "python", "model": {**model, "configFile": "model-config.yaml"}}
    (folder / "MAR-INF/MANIFEST.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    config = yaml.safe_dump(get_model_config(args, model_snapshot_path))
    (folder / "model-config.yaml").write_text(config, encoding="utf-8")


def main(args):
    """Serve until Ctrl-C. Raises ImportError if the engine is missing, RuntimeError if the server ends."""
    from ts.launcher import start, stop

    check_engine(args.engine)
    with contextlib.suppress(KeyboardInterrupt), create_mar_file(args):
        try:
            output = start(
                args.model_store,
                no_config_snapshots=True,
                models=args.model_name,
                disable_token=args.disable_token_auth,
            )
            for line in iter(output.get, None):
                sys.stdout.write(line)
                sys.stdout.flush()
            raise RuntimeError("the server has ended")
        finally:
            stop()


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # as Ctrl-C: what it has made is deleted
    try:
        main(read_options())
    except (ImportError, FileExistsError, RuntimeError) as error:
        sys.exit(f"ts.llm_launcher: {error}")
