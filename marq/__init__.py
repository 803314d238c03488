"""marq (Model ARchive Queue): asynchronous inference through Redis streams.

`Client` and `AsyncClient` submit requests without HTTP. They are imported on first use, because every
marq process imports this package and most need neither.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marq.client import (
        AsyncBatch,
        AsyncClient,
        AsyncJob,
        Batch,
        Client,
        Job,
        JobCancelled,
        JobExpired,
        JobFailed,
    )

__version__ = "0.1.0"
__all__ = [
    "AsyncBatch",
    "AsyncClient",
    "AsyncJob",
    "Batch",
    "Client",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name in __all__:
        from marq import client

        return getattr(client, name)
    raise AttributeError(f"module 'marq' has no attribute {name!r}")
