"""Loads the handler that an archive names."""

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from ts import model_loader
from ts.context import Context
from ts.handler_utils.extra_files import alone_in, unpack_extra_files
from workers.handler import traces
from workers.handler.call import Handle, HandlerCall
from workers.handler.measurements import Collector, handler_cache
from workers.handler.precedence import give_way
from workers.launch import ReplicaSpec

FIRST_CALL = (
    ". A handler that is a function is called once with data=None when the model is loaded, as in "
    "TorchServe: return None then"
)


class LoadError(Exception):
    """Raised when a handler cannot be made ready; the cause is chained to it and named in its text."""


class HandlerImportFailed(LoadError):
    """Raised when neither the archive's module nor a built-in handler of that name can be imported."""


class EntryPointNotFound(LoadError):
    """Raised when the module has neither the function nor exactly one usable class."""


class EnvelopeNotFound(LoadError):
    """Raised when there is no request envelope of that name, or it cannot be imported."""


class InitializationFailed(LoadError):
    """Raised when the handler's own initialisation raises."""


def load(handler: str, model_dir: Path, context: Context, envelope: str | None = None) -> Handle:
    """Imports the handler, initialises it with `context` and returns its function for batches.

    The model directory must be the working directory and on `sys.path`. MemoryError and RuntimeError
    (CUDA among them) pass unchanged; everything else becomes a LoadError.
    """
    _label_metrics(context)
    folder = model_loader.handler_folder(handler, model_dir)
    if folder:
        sys.path.insert(0, str(folder))
    with _reported_as(HandlerImportFailed, f"Cannot import handler {handler}"):
        module = model_loader.import_handler(handler)
        _check_origin(module, folder or model_dir)
    with _reported_as(EntryPointNotFound, f"Cannot find the entry point of handler {handler}"):
        entry = model_loader.find_entry_point(module, model_loader.split_handler(handler)[1])
    with _reported_as(EnvelopeNotFound, f"Cannot use service envelope {envelope}"):
        handle = model_loader.wrap_in_envelope(entry.handle, envelope)
    hint = FIRST_CALL if entry.is_function else ""
    with _reported_as(InitializationFailed, f"Cannot initialise handler {handler}", hint):
        entry.initialize(context)
    return handle


def _label_metrics(context: Context) -> None:
    """Metrics during the load belong to no request and have an id of their own."""
    metrics = context.metrics
    if metrics is not None:
        metrics.model_name = context.model_name
        metrics.request_ids = str(uuid.uuid4())


def _check_origin(module: ModuleType, folder: Path) -> None:
    """Refuses a handler file with the name of a module that this process had loaded before."""
    own = folder / f"{module.__name__}.py"
    origin = getattr(module, "__file__", None)
    if own.is_file() and not (origin and Path(origin).exists() and own.samefile(origin)):
        raise ImportError(f"{own.name} has the name of a module that is loaded already ({origin}); rename it")


@contextmanager
def _reported_as(error_class: type[LoadError], text: str, hint: str = "") -> Iterator[None]:
    try:
        yield
    except (MemoryError, RuntimeError):
        raise
    except Exception as error:
        raise error_class(f"{text}: {type(error).__name__}: {error}{hint}") from error


def load_replica(
    spec: ReplicaSpec, collector: Collector, shared: Callable[[Handle], Handle] | None = None
) -> HandlerCall:
    """Enters the model directory and loads its handler there; `shared` has its batches run on all ranks."""
    handle, context = load_handler(spec, collector)
    pool = spec.pool
    return HandlerCall(
        shared(handle) if shared else handle,
        context,
        pool.decode_input,
        pool.max_response_size,
        pool.place,
        pool.max_form_fields,
    )


def load_handler(spec: ReplicaSpec, collector: Collector) -> tuple[Handle, Context]:
    """Enters the model directory and loads its handler there: the function for batches, and its context."""
    pool, model = spec.pool, spec.pool.model
    model_dir = Path(pool.model_dir)
    os.chdir(model_dir)
    sys.path[:0] = filter(None, [str(model_dir), pool.dependency_dir])
    gpu = spec.gpu
    if gpu is not None and model.parallel_level:  # the group sees its own devices only
        gpu = int(os.environ.get("LOCAL_RANK", "0"))
    if gpu is not None:
        _choose_device(pool.device_kind, gpu)
    config = _model_config(model_dir)
    context = Context(
        model.name, str(model_dir), _manifest(model_dir), model.batch_size, gpu, "0.12.0",
        limit_max_image_pixels=pool.limit_max_image_pixels, model_yaml_config=config,
    )  # fmt: skip
    context.metrics = handler_cache(pool)
    _unpack_extra_files(model_dir, config)
    give_way(model_dir)
    with _requirements_named(model_dir, pool.dependency_dir):
        handle = load(model.handler, model_dir, context, model.envelope or None)
    return collector.timed(handle, model.async_communication), context


def _choose_device(kind: str, number: int) -> None:
    """The device of tensors that a handler puts on "the" GPU. Apple's has no number."""
    import torch

    if kind == "xpu":
        torch.xpu.set_device(number)
    elif kind != "mps":
        torch.cuda.set_device(number)


@contextmanager
def _requirements_named(model_dir: Path, installed: str) -> Iterator[None]:
    """Names the setting that installs the archive's requirements, where a module is missing."""
    try:
        yield
    except LoadError as error:
        manifest_model = (_manifest(model_dir) or {}).get("model")
        named = manifest_model.get("requirementsFile") if isinstance(manifest_model, dict) else None
        if installed or not named or not isinstance(traces.innermost(error), ModuleNotFoundError):
            raise
        raise type(error)(
            f"{error}. {named} of the archive is not installed: install_py_dep_per_model=true does that"
        ) from error.__cause__


def _unpack_extra_files(model_dir: Path, config: dict[str, object]) -> None:
    """Before the import: the handler may import what is in the tar file."""
    system = config.get("system")
    name = system.get("extraFiles") if isinstance(system, dict) else None
    if isinstance(name, str) and name:
        with alone_in(model_dir), _reported_as(HandlerImportFailed, f"Cannot unpack {name}"):
            unpack_extra_files(model_dir, name)


def _manifest(model_dir: Path) -> dict[str, object] | None:
    import json

    path = model_dir / "MAR-INF/MANIFEST.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _model_config(model_dir: Path) -> dict[str, object]:
    import yaml

    model = (_manifest(model_dir) or {}).get("model")
    name = model.get("configFile") if isinstance(model, dict) else None
    return yaml.safe_load((model_dir / name).read_text()) or {} if name else {}
