"""Small functions shared by handlers: label files, module inspection, errors with a status."""

import enum
import inspect
import json
import logging
import re
from functools import wraps
from pathlib import Path
from warnings import warn

import yaml

logger = logging.getLogger(__name__)

CLEANUP_REGEX = re.compile(r"<.*?>|&(?:[a-z0-9]+|#[0-9]{1,6}|#x[0-9a-f]{1,6});")


class PT2Backend(enum.StrEnum):
    """The `torch.compile` backends that a model's `pt2` configuration may name."""

    EAGER = "eager"
    AOT_EAGER = "aot_eager"
    INDUCTOR = "inductor"
    NVFUSER = "nvfuser"
    AOT_NVFUSER = "aot_nvfuser"
    AOT_CUDAGRAPHS = "aot_cudagraphs"
    OFI = "ofi"
    FX2TRT = "fx2trt"
    ONNXRT = "onnxrt"
    IPEX = "ipex"
    TORCHXLA_TRACE_ONCE = "torchxla_trace_once"
    OPENVINO = "openvino"
    TENSORRT = "tensorrt"
    HPU_BACKEND = "hpu_backend"


_BACKENDS = frozenset(backend.value for backend in PT2Backend)


class PredictionException(Exception):
    """Raised by a handler to answer its whole batch with `error_code` and `message`."""

    def __init__(self, message, error_code=500):
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self):
        return f"{self.message} : {self.error_code}"

    def __reduce__(self):
        return type(self), (self.message, self.error_code)


def check_valid_pt2_backend(backend):
    """True if `backend` names a known backend; otherwise a warning and False."""
    if backend in _BACKENDS:
        return True
    logger.warning("%s is not a supported backend", backend)
    return False


def list_classes_from_module(module, parent_class=None):
    """The classes defined in `module` itself (imported ones do not count), sorted by name."""
    classes = [
        value
        for _, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__
    ]
    if parent_class is None:
        return classes
    return [value for value in classes if issubclass(value, parent_class)]


def load_label_mapping(mapping_file_path):
    """Read an `index_to_name.json`; None (and a warning) if the file is missing."""
    path = Path(mapping_file_path)
    if not path.is_file():
        logger.warning("'%s' is missing. Inference output will not include class name.", mapping_file_path)
        return None
    mapping = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise Exception('index->name JSON mapping should be in "class": "label" format.')
    if "object_type_names" in mapping:
        mapping = {str(index): name for index, name in enumerate(mapping["object_type_names"])}
    return {key: _label(value) for key, value in mapping.items()}


def _label(value):
    label = value[-1] if isinstance(value, list) else value
    if not isinstance(label, str):
        raise Exception("labels in index->name mapping must be either str or List[str]")
    return label


def map_class_to_label(probs, mapping=None, lbl_classes=None):
    """One `{label: probability}` per row of `probs`; `lbl_classes` gives the class of each column."""
    if not isinstance(probs, list):
        raise Exception("Convert classes to list before doing mapping")
    if mapping is not None and not isinstance(mapping, dict):
        raise Exception("Mapping must be a dict")
    if lbl_classes is None:
        lbl_classes = [range(len(row)) for row in probs]
    return [
        {_name_of(mapping, cls): prob for cls, prob in zip(classes, row, strict=False)}
        for classes, row in zip(lbl_classes, probs, strict=False)
    ]


def _name_of(mapping, cls):
    return str(cls) if mapping is None else mapping[str(cls)]


def get_yaml_config(yaml_file_path):
    """The content of a YAML file; `{}` if it is empty."""
    with Path(yaml_file_path).open(encoding="utf-8") as file:
        return yaml.safe_load(file) or {}


def deprecated(version, replacement="", klass=PendingDeprecationWarning):
    """Decorate a function so that each call warns with `klass`."""
    advice = f" Use {replacement} instead." if replacement else ""

    def decorate(function):
        @wraps(function)
        def wrapper(*args, **kwargs):
            warn(
                f"{function.__name__} is deprecated and goes away in {version}.{advice}", klass, stacklevel=2
            )
            return function(*args, **kwargs)

        return wrapper

    return decorate
