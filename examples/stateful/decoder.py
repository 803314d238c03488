"""A toy decoder with continuous batching: a text is spelled one letter for each step of the handler.

Each request has a cache, as the keys and values of a transformer are one: it is made in the request's first
step, and used in the others. Requests join between two steps, and each leaves when its text is complete.
"""

from collections.abc import Callable

from ts.context import Context

END = "."


class Decoder:
    """Spells the request's text; the first step reads it, as a prompt is read."""

    def initialize(self, context: Context) -> None:
        """The caches, by the ids of the requests."""
        context.cache = {}

    def handle(self, data: list[dict[str, bytearray | str]], context: Context) -> list[str]:
        """One letter for each live request, which comes with its data once, and then with an empty row."""
        letters = []
        for index, row in enumerate(data):
            request_id = context.get_request_id(index)
            if request_id not in context.cache:
                body = row["body"]
                context.cache[request_id] = list((body if isinstance(body, str) else body.decode()) + END)
            letters.append(context.cache[request_id].pop(0))
        context.stopping_criteria = [self._criterion(context, each) for each in context.request_ids.values()]
        return letters

    def _criterion(self, context: Context, request_id: str) -> Callable[[str], bool]:
        """Called with the letter: whether it is the last one of its request."""

        def is_last(letter: str) -> bool:
            if letter == END:
                del context.cache[request_id]
            return letter == END

        return is_last
