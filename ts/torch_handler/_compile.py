"""`torch.compile` as a model's `pt2` configuration asks for it."""

import importlib
import logging

import torch

from ts.utils.util import check_valid_pt2_backend

logger = logging.getLogger(__name__)

# Backends that exist only after their package was imported.
_PROVIDERS = {
    "openvino": "openvino.torch",
    "tensorrt": "torch_tensorrt",
    "ipex": "intel_extension_for_pytorch",
    "torchxla_trace_once": "torch_xla",
}


def compile_options(config):
    """The keyword arguments for `torch.compile` in a model's YAML; None: do not compile."""
    pt2 = (config or {}).get("pt2")
    if pt2 is None:
        return None
    if not isinstance(pt2, (str, dict)):
        raise ValueError("pt2 should be str or dict")
    if "compile" in pt2 and isinstance(pt2, dict):
        return _enabled(pt2["compile"])
    if isinstance(pt2, dict) and "export" in pt2:
        return None
    logger.warning(
        "this form of `pt2` is deprecated: write its options under `pt2.compile`, with `enable: true`"
    )
    return {"backend": pt2} if isinstance(pt2, str) else dict(pt2)


def _enabled(section):
    options = dict(section or {})
    if "enable" not in options:
        raise ValueError("pt2.compile must have the key `enable`")
    return options if options.pop("enable") else None


def compiled(model, options):
    """The compiled model, or (with a warning) the model itself if it cannot be compiled."""
    backend = options.get("backend")
    if backend is not None and not check_valid_pt2_backend(backend):
        return model
    text = ", ".join(f"{key} {value}" for key, value in options.items())
    try:
        if backend in _PROVIDERS:
            importlib.import_module(_PROVIDERS[backend])
        result = torch.compile(model, **options)
    except Exception as error:
        logger.warning("Compiling with %s has failed; going on without: %s", text, error)
        return model
    logger.info("Compiled model with %s", text)
    return result
