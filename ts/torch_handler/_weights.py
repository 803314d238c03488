"""Reading model files, each kind in one function."""

import logging
import os
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

logger = logging.getLogger(__name__)

# What the unpickler raises for a refused class, and for bytes that are no pickle at all.
_UNREADABLE = (pickle.UnpicklingError, EOFError, LookupError, ValueError, struct.error)
_YES = {"1", "y", "yes", "true"}


class WeightsError(Exception):
    """Raised when a file of weights holds objects other than tensors and plain values."""


def read_saved(path, device):
    """The content of a file of `torch.save`, read without running code that the file may carry.

    On the CPU the tensors are a view of the file, so that all replicas of a host share one copy of the
    pages; the file must not be rewritten in place meanwhile.
    """
    weights_only = os.environ.get("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "").lower() not in _YES
    try:
        return torch.load(path, map_location=device, mmap=_is_zip(path), weights_only=weights_only)
    except _UNREADABLE as error:
        raise WeightsError(_explain_refusal(path)) from error


def fill(model, state):
    """Strict `load_state_dict` that takes the tensors over instead of copying them where that is the same."""
    if _can_assign(model, state):
        model.load_state_dict(state, assign=True)
    else:
        model.load_state_dict(state)
    return model


def load_torchscript(path, device):
    try:
        model = torch.jit.load(path, map_location=device)
    except RuntimeError as error:
        if _has_member(path, "/constants.pkl"):
            raise
        raise RuntimeError(
            f"{Path(path).name} is not a TorchScript archive. A file written by torch.save "
            "needs a model file (torch-model-archiver --model-file) that defines its class"
        ) from error
    model.eval()
    return model


def load_exported(path, device):
    """A `.pt2`: an exported program, or the package of an ahead-of-time compiled one."""
    if _has_member(path, "/data/aotinductor/"):
        return torch._inductor.aoti_load_package(path)
    from torch.export import load

    program = load(path)
    if torch.device(device).type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, str(device))
    return program.module()


def load_aot_library(path, map_location, device):
    """A `.so` of AOTInductor."""
    if torch.device(map_location).type == "cuda":
        torch.cuda.set_device(device)
    return torch._export.aot_load(path, map_location)


def load_onnx(path, map_location):
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(f"{Path(path).name} needs the package onnxruntime (or onnxruntime-gpu)") from error

    providers = ["CPUExecutionProvider"]
    if map_location == "cuda":
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": torch.cuda.current_device()}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return onnxruntime.InferenceSession(path, sess_options=options, providers=providers)


def _can_assign(model, state):
    """Whether taking the tensors over gives the very model that copying them would give.

    Not so where types differ (copying converts), parameters are shared (copying keeps the tie) or not
    made yet, and where the model has a way of its own to load.
    """
    if not isinstance(state, Mapping) or not isinstance(model, nn.Module):
        return False
    if type(model).load_state_dict is not nn.Module.load_state_dict:
        return False
    own = {name: value for name, value in model.state_dict(keep_vars=True).items() if torch.is_tensor(value)}
    if len({id(value) for value in own.values()}) != len(own):
        return False
    return all(_same_kind(value, state.get(name)) for name, value in own.items())


def _same_kind(own, given):
    return torch.is_tensor(given) and own.dtype == given.dtype and not nn.parameter.is_lazy(own)


def _is_zip(path):
    with Path(path).open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _has_member(path, part):
    try:
        with zipfile.ZipFile(path) as archive:
            return any(part in name for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _explain_refusal(path):
    name = Path(path).name
    objects = _unsafe_globals(path)
    if not objects:
        return f"{name} is not a file that torch.save wrote"
    return (
        f"{name} holds pickled Python objects ({', '.join(objects)}) beside tensors, "
        "and unpickling runs code. Save model.state_dict() instead, or allow the classes in the handler with "
        "torch.serialization.add_safe_globals([...]), or, if you trust the file, set "
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"
    )


def _unsafe_globals(path):
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:
        logger.debug("cannot list the classes in %s", path, exc_info=True)
        return []
