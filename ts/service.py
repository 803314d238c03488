"""A loaded model: its context and its entry point, for code that calls a handler without a server."""

import logging
import os
import time

from ts.context import Context, RequestProcessor
from ts.protocol.otf_message_handler import create_predict_response
from ts.utils.util import PredictionException, get_yaml_config
from ts.version import __version__

__all__ = ["PREDICTION_METRIC", "PredictionException", "Service", "emit_metrics"]

logger = logging.getLogger(__name__)

PREDICTION_METRIC = "PredictionTime"


class Service:
    def __init__(
        self,
        model_name,
        model_dir,
        manifest,
        entry_point,
        gpu,
        batch_size,
        limit_max_image_pixels=True,
        metrics_cache=None,
    ):
        self._entry_point = entry_point
        self._context = Context(
            model_name,
            model_dir,
            manifest,
            batch_size,
            gpu,
            __version__,
            limit_max_image_pixels,
            metrics_cache,
            _read_config(model_dir, manifest),
        )

    @property
    def context(self):
        return self._context

    def set_cl_socket(self, cl_socket):
        self._context.cl_socket = cl_socket

    @staticmethod
    def retrieve_data_for_inference(batch):
        """`(request processors, rows, request ids by index)` of a batch as `retrieve_msg` gives it."""
        if batch is None:
            raise ValueError("Received invalid inputs")
        rows = [{part["name"]: part["value"] for part in request["parameters"]} for request in batch]
        processors = [RequestProcessor(_headers(request)) for request in batch]
        return processors, rows, {index: _text(request["requestId"]) for index, request in enumerate(batch)}

    def predict(self, batch):
        """Call the handler with a batch of `retrieve_msg`; returns the framed answer and never raises."""
        rows, started = enter(self._context, batch), time.perf_counter()
        try:
            returned = self._entry_point(rows, self._context)
        except Exception as error:
            return failed(self._context, error)
        return finished(self._context, returned, started)


def enter(context, batch):
    """Give the context its batch; returns the handler's rows."""
    context.request_processor, rows, context.request_ids = Service.retrieve_data_for_inference(batch)
    if context.metrics is not None:
        context.metrics.request_ids = context.request_ids
    return rows


def failed(context, error):
    """The framed answer to a batch whose handler raised an error."""
    logger.error("the handler of %s has failed", context.model_name, exc_info=error)
    status, message = 503, "Prediction failed"
    if isinstance(error, PredictionException):
        status, message = error.error_code, error.message
    elif isinstance(error, MemoryError) or "CUDA" in str(error):
        status, message = 507, "Out of resources"
    return create_predict_response(None, context.request_ids, message, status)


def finished(context, returned, started):
    """The framed answer to a batch whose handler returned `ret`; the call began at `started`."""
    expected = len(context.request_ids)
    if not isinstance(returned, list):
        logger.warning("%s returned %s instead of a list", context.model_name, type(returned).__name__)
        return create_predict_response(None, context.request_ids, "Invalid model predict output", 503)
    if len(returned) != expected:
        logger.warning("%s gave %d answers to %d requests", context.model_name, len(returned), expected)
        return create_predict_response(None, context.request_ids, "number of batch response mismatched", 503)
    if context.metrics is not None:
        context.metrics.add_time(PREDICTION_METRIC, round((time.perf_counter() - started) * 1000, 2))
    return create_predict_response(returned, context.request_ids, "Prediction success", 200, context)


def emit_metrics(metrics):
    """Write one `[METRICS]` line for each entry."""
    for metric in metrics or ():
        logger.info("[METRICS]%s", metric)


def _headers(request):
    """The content types of the parameters, and the request's own headers."""
    types = {part["name"]: {"content-type": part["contentType"]} for part in request["parameters"]}
    own = {_text(header["name"]): _text(header["value"]) for header in request.get("headers") or ()}
    return types | own


def _text(value):
    return value if isinstance(value, str) else bytes(value).decode()


def _read_config(model_dir, manifest):
    config_file = ((manifest or {}).get("model") or {}).get("configFile")
    return get_yaml_config(os.path.join(model_dir, config_file)) if config_file else {}  # noqa: PTH118
