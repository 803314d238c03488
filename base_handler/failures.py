"""The answer to a sample that failed."""

import http
import logging
from dataclasses import dataclass

from ts.utils.util import PredictionException

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Failure:
    """A status and a message for the client."""

    status: int
    message: str

    @property
    def phrase(self):
        known = {status.value: status.phrase for status in http.HTTPStatus}
        return known.get(self.status, "")

    @property
    def body(self):
        kind = "BadRequestException" if 400 <= self.status < 500 else "InternalServerException"
        return {"code": self.status, "type": kind, "message": self.message}


def attempt(step, value, failure, request_id=None):
    """`step(value)`; `failure` if that raises, or the status and text of a PredictionException.

    Running out of memory is not a failure of one sample: it is raised.
    """
    try:
        return step(value)
    except PredictionException as error:
        return Failure(error.error_code, str(error.message))
    except Exception as error:
        if isinstance(error, MemoryError) or "CUDA" in str(error):
            raise
        logger.exception("%d %s Request: %s", failure.status, failure.message, request_id or "several")
        return failure
