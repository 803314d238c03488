"""Turns the handler string of an archive into a function that answers batches."""

import importlib
import json
import logging
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.service import Service
from ts.utils.util import list_classes_from_module

logger = logging.getLogger(__name__)

BUILT_IN = "ts.torch_handler"
ENVELOPES = "ts.torch_handler.request_envelope"

Handle = Callable[[list[Any], Any], Any]


class EntryPoint(NamedTuple):
    """The functions that answer a batch and initialise the handler; a function of a module is both."""

    handle: Handle
    initialize: Callable[[Any], Any]
    is_function: bool = False


def split_handler(handler: str) -> tuple[str, str]:
    """`dir/name.py:function` as `(name, function)`; the default function is `handle`."""
    module, _, function = handler.partition(":")
    return module.removesuffix(".py").rpartition("/")[2], function or "handle"


def handler_folder(handler: str, model_dir: Path) -> Path | None:
    """The folder that a handler string names: `code/h.py:handle` of the model directory, or an absolute one.

    None if it names none, or one that does not exist.
    """
    file = handler.partition(":")[0]
    folder = model_dir / Path(file).parent
    return folder if "/" in file and folder.is_dir() else None


def import_handler(handler: str) -> ModuleType:
    """The module of a handler string: the archive's own, else the built-in handler of that name.

    An ImportError gives the reason why neither could be imported.
    """
    name, _ = split_handler(handler)
    try:
        return importlib.import_module(name)
    except ImportError as error:
        return _import_built_in(handler, name, error)


def _import_built_in(handler: str, name: str, error: ImportError) -> ModuleType:
    built_in = f"{BUILT_IN}.{handler}"
    try:
        module = importlib.import_module(built_in)
    except ImportError as built_in_error:
        if not _is_missing(name, error):
            raise ImportError(f"handler {name} cannot be imported: {error}", name=error.name) from error
        if not _is_missing(built_in, built_in_error):
            raise ImportError(
                f"built-in handler {handler} cannot be imported: {built_in_error}", name=built_in_error.name
            ) from built_in_error
        raise ImportError(
            f"the model archive has no module {name}, and marq has no built-in handler {handler}", name=name
        ) from error
    if not _is_missing(name, error):
        logger.warning("Handler %s cannot be imported (%s); using the built-in one", name, error)
    return module


def _is_missing(module: str, error: ImportError) -> bool:
    """Whether the error is about the module itself, not about something that it imports."""
    return bool(error.name) and f"{module}.".startswith(f"{error.name}.")


def find_entry_point(module: ModuleType, function: str) -> EntryPoint:
    """The attribute `function` of the module, else the `handle` of its only class."""
    entry = getattr(module, function, None)
    if entry is not None:
        return EntryPoint(entry, lambda context: entry(None, context), not isinstance(entry, type))
    classes = list_classes_from_module(module)
    if len(classes) > 1:  # a network beside its handler
        classes = [kind for kind in classes if hasattr(kind, "handle")] or classes
    if len(classes) != 1:
        raise ValueError(
            f"Expected only one class in custom service code or a function entry point {classes}: "
            f"{module.__name__} must define a function {function} or one class"
        )
    service = classes[0]()
    if not hasattr(service, "handle"):
        raise ValueError(f"Expect handle method in class {classes[0]}")
    return EntryPoint(service.handle, service.initialize)


def wrap_in_envelope(handle: Handle, envelope: str | None) -> Handle:
    """`handle` behind the request envelope of that name; unchanged for an empty name."""
    if not envelope:
        return handle
    module = importlib.import_module(f"{ENVELOPES}.{envelope}")
    return list_classes_from_module(module)[0](handle).handle


class ModelLoader(ABC):
    @abstractmethod
    def load(
        self,
        model_name,
        model_dir,
        handler=None,
        gpu_id=None,
        batch_size=None,
        envelope=None,
        limit_max_image_pixels=True,
        metrics_cache=None,
    ):
        """The `Service` of an extracted archive, initialised."""


class ModelLoaderFactory:
    @staticmethod
    def get_model_loader():
        return TsModelLoader()


class TsModelLoader(ModelLoader):
    """Loads an archive in this process; the archive's folder must be on `sys.path`."""

    def load(
        self,
        model_name,
        model_dir,
        handler=None,
        gpu_id=None,
        batch_size=None,
        envelope=None,
        limit_max_image_pixels=True,
        metrics_cache=None,
    ):
        manifest = _read_manifest(Path(model_dir))
        handler = handler or manifest["model"]["handler"]
        metrics = metrics_cache or MetricsCacheYamlImpl()
        metrics.set_request_ids(str(uuid.uuid4()))
        metrics.model_name = model_name
        entry = find_entry_point(import_handler(handler), split_handler(handler)[1])
        service = Service(
            model_name,
            model_dir,
            manifest,
            wrap_in_envelope(entry.handle, envelope),
            gpu_id,
            batch_size,
            limit_max_image_pixels,
            metrics,
        )
        entry.initialize(service.context)
        return service


def _read_manifest(model_dir):
    path = model_dir / "MAR-INF" / "MANIFEST.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
