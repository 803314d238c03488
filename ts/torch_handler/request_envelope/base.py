"""Envelopes convert request bodies to handler data, and results to response bodies."""

import contextlib
import json
from abc import ABC, abstractmethod


class BaseEnvelope(ABC):
    """Wraps a handle function; `parse_input` and `format_output` see whole batches.

    Rows that `check` refuses are answered with 400 and kept from the others.
    """

    def __init__(self, handle_fn):
        self._handle_fn = handle_fn
        self.context = None

    def handle(self, data, context):
        self.context = context
        if data and context.get_request_header(0, "describe") == "True":
            return self._handle_fn(data, context)
        refusals = ((index, self._refusal(index, row)) for index, row in enumerate(data or ()))
        answers = {index: refusal for index, refusal in refusals if refusal}
        if not answers:
            return self._run(data)
        usable = [index for index in range(len(data)) if index not in answers]
        if usable:
            with _only(context, usable):
                answers.update(zip(usable, self._run([data[index] for index in usable]), strict=True))
        return [answers[index] for index in range(len(data))]

    def check(self, row):  # noqa: B027 - overriding it is optional
        """Raises ValueError, with the reason, for a row that must not reach the handler."""

    @abstractmethod
    def parse_input(self, data):
        """The handler's data for the rows of a batch."""

    @abstractmethod
    def format_output(self, data):
        """One element per row for what the handler returned."""

    def _run(self, rows):
        data = self.parse_input(rows) if rows else rows
        results = self._handle_fn(data, self.context)
        return self.format_output(results) if _has_content(results) else results

    def _refusal(self, index, row):
        """The error answer of a refused row, else None."""
        try:
            self.check(row)
        except ValueError as error:
            self.context.set_response_status(400, "Bad Request", index)
            self.context.set_response_content_type(index, "application/json")
            body = {"code": 400, "type": "BadRequestException", "message": str(error)}
            return json.dumps(body, indent=2) + "\n"
        return None


@contextlib.contextmanager
def _only(context, indexes):
    """The context as if these were the requests of the batch."""
    processors, ids = context.request_processor, context.request_ids
    context.request_processor = [processors[index] for index in indexes]
    context.request_ids = {position: ids[index] for position, index in enumerate(indexes)}
    try:
        yield
    finally:
        context.request_processor, context.request_ids = processors, ids


def _has_content(results):
    try:
        return len(results) > 0
    except TypeError:
        return bool(results)
