"""How data of Python becomes the fields of a request."""

import json
import time
from functools import lru_cache
from typing import TypedDict

from marq.jobs.options import PLAIN, JobOptions
from marq.queue.entries import EntryFields, EntryHead

LONGEST_START_S = 366 * 86_400


class RequestOptions(TypedDict, total=False):
    """Those of each request."""

    version: str | None
    content_type: str | None


class Prediction(RequestOptions, total=False):
    """The options of AsyncClient.predict."""

    timeout: float
    priority: str
    path: str | None
    explain: bool


def encode(
    data: object,
    content_type: str | None = None,
    start_by: bytes = b"",
    options: JobOptions = PLAIN,
    path: str | None = None,
    explain: bool = False,
) -> EntryFields:
    """The fields of a request: bytes go as they are, text as UTF-8, everything else as JSON."""
    if isinstance(data, bytes | bytearray | memoryview):
        body, kind = bytes(data), ""
    elif isinstance(data, str):
        body, kind = data.encode(), "text/plain"
    else:
        body, kind = json.dumps(data).encode(), "application/json"
    kind = content_type if content_type is not None else kind
    return EntryFields(body, _head(kind.encode(), start_by, options, path, explain))


@lru_cache(maxsize=16)
def _head(kind: bytes, start_by: bytes, options: JobOptions, path: str | None, explain: bool) -> EntryHead:
    """Many rows in a row share one."""
    return EntryHead(
        type=kind,
        deadline=start_by,
        headers=b'{"explain": "True"}' if explain else b"",
        path=None if path is None else path.encode(),
        options=options.fields,
    )


def deadline(start_within: float | None) -> bytes:
    """The value that keeps replicas from running an entry after `start_within` seconds."""
    if start_within is None:
        return b""
    if not 0 < start_within < LONGEST_START_S:
        raise ValueError(f"start_within must be above 0 and below {LONGEST_START_S} s, not {start_within}")
    return b"%d" % (1000 * (time.time() + start_within))
