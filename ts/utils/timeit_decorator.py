"""A decorator that logs how long a function took."""

import logging
import time
from functools import wraps

logger = logging.getLogger(__name__)


def timeit(func):
    @wraps(func)
    def wrapper(*args, **kwargs):
        start = time.perf_counter()
        result = func(*args, **kwargs)
        logger.info("%s took %.2f ms", func.__name__, (time.perf_counter() - start) * 1000)
        return result

    return wrapper
