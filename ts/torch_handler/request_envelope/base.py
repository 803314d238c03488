"""What stands between the body that a client sends and the data that a handler takes."""

from abc import ABC, abstractmethod


class BaseEnvelope(ABC):
    """Wraps a handle function; `parse_input` and `format_output` see whole batches."""

    def __init__(self, handle_fn):
        self._handle_fn = handle_fn
        self.context = None

    def handle(self, data, context):
        self.context = context
        if data and context.get_request_header(0, "describe") == "True":
            return self._handle_fn(data, context)
        if data:
            data = self.parse_input(data)
        results = self._handle_fn(data, context)
        return self.format_output(results) if _has_content(results) else results

    @abstractmethod
    def parse_input(self, data):
        """The handler's data for the rows of a batch."""

    @abstractmethod
    def format_output(self, data):
        """One element per row for what the handler returned."""


def _has_content(results):
    try:
        return len(results) > 0
    except TypeError:
        return bool(results)
