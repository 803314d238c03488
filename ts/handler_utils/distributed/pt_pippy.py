"""Processes of one model that call each other.

PiPPy itself, which cut models into stages, has no release for the versions of PyTorch that marq runs on.
"""


def initialize_rpc_workers(local_rank, world_size, ctx):
    """Join this process to the `world_size` processes of its model."""
    from torch.distributed import rpc

    config = ctx.model_yaml_config.get("pippy") or {}
    options = rpc.TensorPipeRpcBackendOptions(
        num_worker_threads=config.get("num_worker_threads", 512),
        rpc_timeout=config.get("rpc_timeout", 1800),
    )
    rpc.init_rpc(f"worker{local_rank}", rank=local_rank, world_size=world_size, rpc_backend_options=options)


def get_pipeline_driver(model, world_size, ctx):
    raise ImportError(
        "pipeline parallelism needs the package pippy (torchpippy), which works up to PyTorch 2.3; "
        "cut the model with torch.distributed.pipelining in a handler of your own instead"
    )
