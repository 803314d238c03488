"""A loaded model: its context and its entry point."""

import logging
import os

from ts.context import Context
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


def _read_config(model_dir, manifest):
    config_file = ((manifest or {}).get("model") or {}).get("configFile")
    return get_yaml_config(os.path.join(model_dir, config_file)) if config_file else {}  # noqa: PTH118


def emit_metrics(metrics):
    """Write one `[METRICS]` line for each entry."""
    for metric in metrics or ():
        logger.info("[METRICS]%s", metric)
