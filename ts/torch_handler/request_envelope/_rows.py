"""Rows of a batch in, slices of the results out."""

import json

from ts.utils.util import PredictionException


def payload(row, default=None):
    """The parsed `data` or `body` of a row, else `default`."""
    value = row.get("data") or row.get("body")
    if value is None:
        return default
    return json.loads(value) if isinstance(value, (bytes, bytearray)) else value


def check_list(body, key):
    """Raises ValueError unless the body of a request is an object with a list of that name."""
    if not isinstance(body, dict) or not isinstance(body.get(key), list):
        raise ValueError(f'The body must be a JSON object with a list "{key}".')


def split(results, lengths):
    """The results of each row, given how many inputs it had. A single row owns all results."""
    if len(lengths) == 1:
        return [results]
    if len(results) != sum(lengths):
        raise PredictionException(
            f"{len(results)} results for {sum(lengths)} inputs of {len(lengths)} requests", 503
        )
    parts, start = [], 0
    for length in lengths:
        parts.append(results[start : start + length])
        start += length
    return parts
