"""The device of a handler's tensors."""

import importlib.util
import os

import torch


def available(package):
    return importlib.util.find_spec(package) is not None


IPEX_AVAILABLE = os.environ.get("TS_IPEX_ENABLE", "false").lower() == "true" and available(
    "intel_extension_for_pytorch"
)
XLA_AVAILABLE = available("torch_xla")


def choose(gpu_id):
    """`(map_location, device)` for a replica that owns the accelerator `gpu_id` (None: none)."""
    if gpu_id is not None:
        if torch.cuda.is_available():
            return "cuda", torch.device(f"cuda:{gpu_id}")
        if os.environ.get("TS_IPEX_GPU_ENABLE", "false") == "true" and torch.xpu.is_available():
            return "xpu", torch.device(f"xpu:{gpu_id}")
        if torch.backends.mps.is_available():
            return "mps", torch.device("mps")
    if XLA_AVAILABLE:
        import torch_xla.core.xla_model as xm

        return None, xm.xla_device()
    return "cpu", torch.device("cpu")


def use_tensor_cores():
    """TF32 matrix products on devices that have them, as TorchServe does."""
    if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0):
        torch.set_float32_matmul_precision("high")


def optimize_for_ipex(model):
    import intel_extension_for_pytorch as ipex

    return ipex.optimize(model.to(memory_format=torch.channels_last))
