"""`@timed`: a gauge for each call of a handler method, when the model asks for it."""

import sys
import time
from functools import wraps


def timed(func):
    """Emit `ts_handler_<name>` in ms per call if the model's YAML has `handler.profile: true`."""
    metric = f"ts_handler_{func.__name__}"

    @wraps(func)
    def wrapper(self, *args, **kwargs):
        if not _profiled(getattr(self, "context", None)):
            return func(self, *args, **kwargs)
        clock = _cuda_clock() or _wall_clock()
        result = func(self, *args, **kwargs)
        self.context.metrics.add_time(metric, clock())
        return result

    return wrapper


def _profiled(context):
    if not context:
        return False
    config = getattr(context, "model_yaml_config", None) or {}
    return bool((config.get("handler") or {}).get("profile"))


def _wall_clock():
    start = time.perf_counter()
    return lambda: (time.perf_counter() - start) * 1000


def _cuda_clock():
    """A clock that also waits for the kernels, or None where no CUDA device is in use."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()

    def elapsed():
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return elapsed
