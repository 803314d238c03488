"""Streaming of intermediate answers, and import of a class by its dotted name."""

import importlib
import os


def send_intermediate_predict_response(ret, req_id_map, message, code, context):
    """Send one chunk per entry of `ret` before the handler returns.

    `req_id_map` gives the request id of each position of `ret`. Under torchrun only rank 0 sends.
    """
    if os.environ.get("LOCAL_RANK", "0") != "0":
        return
    context.cl_socket.stream(ret, req_id_map, code)


def import_class(class_name, module_prefix=None):
    """The class of a dotted name; `module_prefix` is put before it."""
    if not class_name:
        raise ImportError("class name is not defined")
    dotted = f"{module_prefix}.{class_name}" if module_prefix else class_name
    module_name, _, name = dotted.rpartition(".")
    if not module_name:
        raise ImportError("module name is not defined.")
    module = importlib.import_module(module_name)
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ImportError(f"class:{name} not found in module:{module_name}.") from error
